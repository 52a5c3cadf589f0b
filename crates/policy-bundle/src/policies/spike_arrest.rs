//! SpikeArrest (7.12, 8.4).

use super::{RefOrText, World, children, message_weight};
use crate::context::Context;
use crate::fault::Fault;
use crate::spike_arrest::Rate;
use crate::variable::Variable;
use crate::xml::{One, Reader};
use roxmltree::Node;

#[derive(Clone, Debug)]
pub(crate) struct SpikeArrest {
    rate: RefOrText,
    literal: Option<Rate>,
    identifier: Option<RefOrText>,
    weight: Option<RefOrText>,
}

impl SpikeArrest {
    pub fn parse(root: Node<'_, '_>, reader: &mut Reader<'_>) -> SpikeArrest {
        let children = children(
            root,
            reader,
            &[],
            &[
                ("Rate", One),
                ("Identifier", One),
                ("MessageWeight", One),
                ("UseEffectiveCount", One),
            ],
        );
        let mut policy = SpikeArrest {
            rate: RefOrText::default(),
            literal: None,
            identifier: None,
            weight: None,
        };
        for child in &children {
            match child.tag_name().name() {
                "Rate" => {
                    policy.rate = RefOrText::parse(*child, reader);
                    policy.literal = policy.rate.text.as_deref().and_then(Rate::parse);
                    if let (Some(text), None) = (&policy.rate.text, policy.literal) {
                        let what = format!("Invalid spike arrest rate {text}.");
                        reader.error(*child, "InvalidAllowedRate", what, "Write 30ps or 12pm.");
                    }
                }
                "Identifier" => policy.identifier = Some(RefOrText::parse(*child, reader)),
                "MessageWeight" => policy.weight = Some(RefOrText::parse(*child, reader)),
                // Rates are shared among pods; there is one.
                _ => drop(reader.boolean(*child, false)),
            }
        }
        if policy.rate == RefOrText::default() {
            reader.error(
                root,
                "InvalidAllowedRate",
                "the policy has no rate.",
                "Write `<Rate>30ps</Rate>`.",
            );
        }
        policy
    }

    pub fn execute(
        &self,
        name: &str,
        context: &mut Context,
        world: &World<'_>,
    ) -> Result<(), Fault> {
        let referred = self.rate.reference.as_ref().and_then(|variable| context.read(variable));
        let rate = match referred.map(|value| value.as_text().into_owned()) {
            Some(text) => Rate::parse(&text).ok_or_else(|| {
                Fault::of_policy(
                    500,
                    "policies.ratelimit.InvalidAllowedRate",
                    format!("Invalid spike arrest rate {text}."),
                )
            })?,
            None => self.literal.ok_or_else(|| {
                Fault::of_policy(
                    500,
                    "policies.ratelimit.FailedToResolveSpikeArrestRate",
                    format!(
                        "Failed to resolve spike arrest rate reference {} in spike arrest policy {name}",
                        self.rate.name()
                    ),
                )
            })?,
        };
        let weight = message_weight(self.weight.as_ref(), context)?;
        let identifier =
            self.identifier.as_ref().and_then(|identifier| identifier.resolve(context));
        let key = context.facts.counter_key(name, identifier.as_deref().unwrap_or("_default"), "");
        let now = world.clock.nanos();
        if world.counters.spike_arrest(&key, now, |state| state.admit(now, rate, weight)) {
            Ok(())
        } else {
            Err(Fault::of_policy(
                429,
                "policies.ratelimit.SpikeArrestViolation",
                format!("Spike arrest violation. Allowed rate : {rate}"),
            ))
        }
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        self.rate.variables(visit);
        for value in self.identifier.iter().chain(&self.weight) {
            value.variables(visit);
        }
    }
}
