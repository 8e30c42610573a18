//! The standard guards.

mod edit_scope;
mod edit_size;
pub mod presets;
mod protected_paths;
mod tree;

pub use edit_scope::EditScope;
pub use edit_size::EditSize;
pub use protected_paths::ProtectedPaths;
