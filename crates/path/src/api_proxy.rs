//! A client of an API proxy's northbound host.

use crate::request::Asked;
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Walk};
use names::Reason;

impl Walk<'_> {
    /// The environment group with the host, and the proxy under the path.
    pub(crate) fn api_proxy(&mut self, asked: &Asked) -> End {
        let step = Step::new(State::RunApiProxy, asked.url());
        let why = format!("no environment group has the host {}", asked.host);
        let refusal = Refusal::new(Reason::ApplicationNotFound, why);
        self.refuse(step, refusal, End::Answered { status: 404, location: None })
    }
}
