//! Jobs of one namespace.

use serde_json::Value;

use crate::Ground;

/// The CronJob, and the container in its pods.
pub const VERIFIER: &str = "character-verifier";

/// The other CronJob, its Deployment, and the container in their pods.
pub const DRAIN: &str = "outbox-drain";

/// How a Job ended.
#[derive(Debug)]
pub struct Ended {
    /// `Complete` or `Failed`.
    pub how: String,
    /// Kubernetes' reason; `PodFailurePolicy` where no further try was made.
    pub reason: String,
    /// In words.
    pub message: String,
}

impl Ground {
    /// Makes a Job from the CronJob, as the documentation says.
    pub fn start(&self, job: &str) {
        self.bash(&format!("kubectl -n rollcall create job {job} --from=cronjob/{VERIFIER}"));
    }

    /// The same with other settings (`NAME=value …`) for this run alone, as the documentation says.
    pub fn start_with(&self, job: &str, settings: &str) {
        self.bash(&format!(
            "kubectl -n rollcall create job {job} --from=cronjob/{VERIFIER} --dry-run=client -o yaml \\\n  \
             | kubectl set env --local -f - -c {VERIFIER} -o yaml {settings} \\\n  \
             | kubectl create -f -"
        ));
    }

    /// Waits until the Job has ended, either way.
    pub fn end(&self, job: &str) -> Ended {
        // The first condition announces the end, the second is it.
        let second = "{.status.conditions[1:].type}";
        self.bash(&format!("kubectl -n rollcall wait job/{job} --for=jsonpath='{second}' --timeout=3m"));
        let found = self.object(&format!("job/{job}"));
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let is_end = |one: &&Value| one["status"] == "True" && (one["type"] == "Complete" || one["type"] == "Failed");
        let Some(end) = conditions.iter().find(is_end) else { panic!("{job} has not ended: {conditions:#?}") };
        Ended { how: text(&end["type"]), reason: text(&end["reason"]), message: text(&end["message"]) }
    }

    /// Waits until the Job is complete.
    ///
    /// # Panics
    /// It failed; the message shows its log.
    pub fn complete(&self, job: &str) {
        let ended = self.end(job);
        assert!(ended.how == "Complete", "{ended:?}\n{}", self.log(job));
    }

    /// Waits until the Job has failed without another try, by this exit code.
    pub fn fails_at_once(&self, job: &str, code: i64) {
        let ended = self.end(job);
        assert_eq!((&*ended.how, &*ended.reason), ("Failed", "PodFailurePolicy"), "{ended:?}\n{}", self.log(job));
        assert_eq!(self.exit_codes(job), [code], "one try\n{}", self.log(job));
    }

    /// What all tries of the Job have written.
    pub fn log(&self, job: &str) -> String {
        let answer =
            self.try_bash(&format!("kubectl -n rollcall logs -l batch.kubernetes.io/job-name={job} --tail=-1"));
        answer.out + &answer.error
    }

    /// The line in which the last try of the Job tells its outcome.
    pub fn finished(&self, job: &str) -> Value {
        let log = self.log(job);
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.rfind(|line| line["message"] == "finished").unwrap_or_else(|| panic!("no outcome:\n{log}"))
    }

    /// Its pods, oldest first.
    pub fn pods(&self, job: &str) -> Vec<Value> {
        let by = "--sort-by=.metadata.creationTimestamp";
        let found = self.object(&format!("pods -l batch.kubernetes.io/job-name={job} {by}"));
        found["items"].as_array().cloned().unwrap_or_default()
    }

    /// The exit codes of its tries that have ended and are still there, oldest first.
    pub fn exit_codes(&self, job: &str) -> Vec<i64> {
        let code = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
        self.pods(job).iter().filter_map(code).collect()
    }

    /// Objects as they are now.
    pub fn object(&self, what: &str) -> Value {
        let text = self.bash(&format!("kubectl -n rollcall get {what} -o json"));
        serde_json::from_str(&text).expect("kubectl writes JSON")
    }

    /// Patches the CronJob of the verifier so that it is suspended, or not, as the documentation says.
    pub fn suspend(&self, suspend: bool) {
        self.suspend_of(VERIFIER, suspend);
    }

    /// The same with another CronJob.
    pub fn suspend_of(&self, cronjob: &str, suspend: bool) {
        let patch = format!("{{\"spec\": {{\"suspend\": {suspend}}}}}");
        self.bash(&format!("kubectl -n rollcall patch cronjob {cronjob} -p '{patch}'"));
    }
}
