//! Nodes.

use crate::{
    cluster::MARK,
    commands::{bash, try_bash},
};

/// A node that takes no pods until this is dropped.
#[derive(Debug)]
pub struct Drained {
    node: String,
}

impl Drained {
    /// Drains `node` of the pods with these labels. Others stay, since other tests own them.
    pub fn node(node: &str, selector: &str) -> Self {
        // Marked first: whoever finds it so after an aborted test knows whom to ask.
        bash(&format!("kubectl label node {node} {MARK}=drained --overwrite"));
        let drained = Self { node: node.to_owned() };
        bash(&format!("kubectl drain {node} --pod-selector={selector} --ignore-daemonsets --timeout=2m"));
        drained
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        try_bash(&format!("kubectl uncordon {0}; kubectl label node {0} {MARK}-", self.node));
    }
}
