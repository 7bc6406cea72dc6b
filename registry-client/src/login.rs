//! Showing a registry who we are, before a login is kept.

use dhow_image::{TransferError, TransferErrorKind};
use ureq::Body;
use ureq::http::{Method, Response, StatusCode, header};

use crate::auth::{Authorizer, Purpose, introduce};
use crate::challenge::Challenge;
use crate::credentials::{Account, Credentials, Proof};
use crate::endpoint::Endpoint;
use crate::refusal::refused;
use crate::repository::{Access, Ask, Repository, drain};
use crate::transport::Transport;

/// Shows `proof` to the registry; what is to be kept.
pub(crate) fn log_in(
    transport: &Transport,
    endpoint: Endpoint,
    account: &Account,
    proof: &Proof,
) -> Result<Proof, TransferError> {
    // The first question is asked as nobody: it tells what the registry wants.
    let nobody = Authorizer::new(Credentials::Anonymous);
    let name = account.namespace().unwrap_or_default();
    let repository = Repository::new(transport, &nobody, endpoint.clone(), name, Access::Pull);
    let ask = |proof: Option<String>| {
        let mut ask = Ask::new(
            Method::GET,
            endpoint.url(""),
            format!("logging in to {account}"),
        );
        ask.is_bare = true;
        match proof {
            Some(proof) => repository.send(&ask.header(header::AUTHORIZATION, proof)),
            None => repository.send(&ask),
        }
    };
    let first = ask(None)?;
    if first.status() != StatusCode::UNAUTHORIZED {
        // Whoever we are, it lets us in.
        return judged(account, first).map(|()| proof.clone());
    }
    let challenges = first.headers().get_all(header::WWW_AUTHENTICATE);
    let challenges = challenges.iter().filter_map(|value| value.to_str().ok());
    let challenge = Challenge::best(challenges);
    drain(first);
    match challenge {
        Some(Challenge::Basic) => {
            let Some(header) = proof.header() else {
                return Err(TransferError::new(
                    TransferErrorKind::Denied,
                    format!(
                        "{account} wants a name and a password; it has no use for an identity token"
                    ),
                ));
            };
            judged(account, ask(Some(header))?).map(|()| proof.clone())
        }
        Some(Challenge::Bearer { realm, service, .. }) => {
            let purpose = Purpose {
                endpoint: &endpoint,
                repository: name,
                scope: "",
            };
            let issuer = (realm.as_str(), service.as_deref());
            let (header, identity) = introduce(transport, &purpose, issuer, proof)?;
            judged(account, ask(Some(header))?)?;
            Ok(identity.map_or_else(|| proof.clone(), Proof::Identity))
        }
        None => Err(TransferError::new(
            TransferErrorKind::Denied,
            format!("{account} denies access, and does not say what it wants to be shown"),
        )),
    }
}

fn judged(account: &Account, response: Response<Body>) -> Result<(), TransferError> {
    match response.status() {
        StatusCode::OK => {
            drain(response);
            Ok(())
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(TransferError::new(
            TransferErrorKind::Denied,
            format!("{account} does not accept this name and password (unauthorized)"),
        )),
        _ => Err(refused("logging in to", &account.to_string(), response)),
    }
}
