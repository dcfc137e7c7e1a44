/// Who acts, for the audit log: a request extension that whoever lets the request in may set; `admin` where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(pub String);

impl Default for Actor {
    fn default() -> Self {
        Self("admin".to_owned())
    }
}
