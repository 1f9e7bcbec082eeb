//! Where files are cut into chunks. Not part of the stored format: any cut is valid, a steady one saves space.

/// How a file is best cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutStyle {
    /// A mail message: at the end of the header and around large MIME parts.
    Message,
    /// Anything else: by content-defined chunking.
    Plain,
}
