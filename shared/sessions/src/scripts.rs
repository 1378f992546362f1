//! The Lua steps, and how they are sent.

use redis::{ErrorKind, FromRedisValue, Script, ScriptInvocation, ServerErrorKind};

use crate::{SessionError, Sessions};

/// Most commands in one pipeline: bounds the memory of the replies and the time other clients wait behind it.
pub(crate) const PIPELINE_STEPS: usize = 200;

/// A step's source: what all steps share, then the step itself.
macro_rules! step {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("lua/session.lua"),
            include_str!("lua/marks.lua"),
            include_str!("lua/touch.lua"),
            include_str!(concat!("lua/", $file, ".lua"))
        ))
    };
}

pub(crate) struct Scripts {
    pub(crate) open: Script,
    pub(crate) validate: Script,
    pub(crate) act_as: Script,
    pub(crate) list: Script,
    pub(crate) find_acting: Script,
    pub(crate) end_one: Script,
    pub(crate) end_all: Script,
    pub(crate) take: Script,
    pub(crate) probe: Script,
    pub(crate) mark_and_probe: Script,
    pub(crate) issue_ticket: Script,
    pub(crate) redeem_ticket: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            open: step!("open"),
            validate: step!("validate"),
            act_as: step!("act_as"),
            list: step!("list"),
            find_acting: step!("find_acting"),
            end_one: step!("end_one"),
            end_all: step!("end_all"),
            take: step!("take"),
            probe: step!("probe"),
            mark_and_probe: step!("mark_and_probe"),
            issue_ticket: step!("issue_ticket"),
            redeem_ticket: step!("redeem_ticket"),
        }
    }
}

impl Sessions {
    /// Runs one step; a script the server does not know is loaded on the way.
    pub(crate) async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, SessionError> {
        Ok(call.invoke_async(&mut self.connection.clone()).await?)
    }

    /// Runs `script` once per element, in pipelines, and answers in the order of the elements.
    pub(crate) async fn run_each<E, T: FromRedisValue>(
        &self,
        script: &Script,
        elements: &[E],
        fill: impl Fn(&E, &mut ScriptInvocation<'_>),
    ) -> Result<Vec<T>, SessionError> {
        let mut replies = Vec::with_capacity(elements.len());
        for chunk in elements.chunks(PIPELINE_STEPS) {
            let mut pipe = redis::pipe();
            // Loaded in the same pipeline, the script is there also after a restart or a failover.
            pipe.load_script(script).ignore();
            for element in chunk {
                let mut call = script.prepare_invoke();
                fill(element, &mut call);
                pipe.invoke_script(&call);
            }
            let mut connection = self.connection.clone();
            let mut answer = pipe.query_async::<Vec<T>>(&mut connection).await;
            // Only a SCRIPT FLUSH between the two commands gets here. Steps may be repeated.
            if matches!(&answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
                answer = pipe.query_async(&mut connection).await;
            }
            replies.append(&mut answer?);
        }
        Ok(replies)
    }
}
