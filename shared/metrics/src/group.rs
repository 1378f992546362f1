//! The labels under which a process pushes.

/// Where metrics belong: the job, its namespace where there is one, and its shard where there are several. There is no
/// `instance`: a pod's name would leave a new group behind with every run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name of the job.
    pub job: &'static str,
    /// Kubernetes namespace, or what stands for it elsewhere.
    pub namespace: Option<String>,
    /// Number of the shard, from 0.
    pub shard: Option<u32>,
}

impl Group {
    /// Label names and values, the job first.
    pub(crate) fn labels(&self) -> Vec<(&'static str, String)> {
        let namespace = self.namespace.clone().map(|value| ("namespace", value));
        let shard = self.shard.map(|value| ("shard", value.to_string()));
        [("job", self.job.to_owned())].into_iter().chain(namespace).chain(shard).collect()
    }

    /// Refuses what would not survive as a part of a path: the labels travel there, unencoded.
    ///
    /// # Errors
    /// Which label is wrong, and what it may hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, value) in self.labels() {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if value.len() > 63 || !value.starts_with(|c: char| c.is_ascii_alphanumeric()) || !value.chars().all(plain)
            {
                return Err(format!(
                    "the metrics label {name} cannot be {value:?}; use 1 to 63 letters, digits, '-', '_' and '.', \
                     beginning with a letter or digit"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(value: &str) -> Group {
        Group { job: "character-verifier", namespace: Some(value.to_owned()), shard: Some(0) }
    }

    #[test]
    fn labels_are_job_namespace_and_shard_where_given() {
        let all = namespace("production").labels();
        assert_eq!(all.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["job", "namespace", "shard"]);
        let bare = Group { job: "migrate", namespace: None, shard: None };
        assert_eq!(bare.labels(), [("job", "migrate".to_owned())]);
    }

    #[test]
    fn a_namespace_of_kubernetes_is_taken() {
        for value in ["production", "battlescope-prod-2", "7"] {
            assert_eq!(namespace(value).check(), Ok(()));
        }
    }

    #[test]
    fn a_value_that_could_change_the_path_is_refused() {
        for value in ["", "..", ".", "a/b", "a b", "a?b", "a#b", "a%2Fb", "a:b", "ä", "-a", &"a".repeat(64)] {
            let problem = namespace(value).check().expect_err(value);
            assert!(problem.contains("namespace"), "{problem}");
        }
    }
}
