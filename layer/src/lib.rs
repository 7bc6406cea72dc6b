//! A layer's two forms, tar stream and directory tree, and each turned into the other, confined to its root.
