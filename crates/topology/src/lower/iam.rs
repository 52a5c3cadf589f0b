//! Service accounts (cloud-run 5.1, 5.4).

use super::Lowering;
use crate::derive;
use crate::diagnostic::{Code, Findings};
use slice::run;

impl Lowering<'_> {
    /// Declared service accounts.
    pub(crate) fn service_accounts(&mut self, findings: &mut Findings) {
        for scoped in &self.model.service_accounts {
            let raw = &scoped.raw;
            let own = raw.project_id.as_ref().map(|project| project.as_str());
            let project = own.map(|project| self.model.project_id(project));
            let project = project.or_else(|| scoped.scope.project.clone());
            let named = raw.email.as_ref().or(raw.name.as_ref()).or(raw.account_id.as_ref());
            let Some(named) = named else {
                if !raw.faulty {
                    findings.error(
                        Code::MissingField,
                        raw.at,
                        "a service account without `email`",
                        "add `email` or `accountId`",
                    );
                }
                continue;
            };
            // `name` is `projects/P/serviceAccounts/EMAIL`, and people write the short id too.
            let short = crate::reference::last_segment(named);
            let email = match (short.contains('@'), &project) {
                (true, _) => short.to_owned(),
                (false, Some(project)) => format!("{short}@{project}.iam.gserviceaccount.com"),
                (false, None) => {
                    findings.error(
                        Code::NoProject,
                        named.at,
                        format!(
                            "the service account `{short}` is in no project; its email needs one"
                        ),
                        "write the whole email, or `project:` at the top of the document",
                    );
                    continue;
                }
            };
            if !is_email(&email) {
                findings.error(
                    Code::InvalidName,
                    named.at,
                    format!("`{email}` is no email of a service account"),
                    "write NAME@PROJECT.iam.gserviceaccount.com",
                );
                continue;
            }
            if self.accounts.contains_key(&email) {
                findings.error(
                    Code::DuplicateResource,
                    named.at,
                    format!("the service account `{email}` is declared twice"),
                    "remove one of the two",
                );
                continue;
            }
            let project = project.unwrap_or_else(|| "".into());
            self.account(&email, &project);
            if let Some(id) = &raw.unique_id {
                if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
                    findings.error(
                        Code::InvalidValue,
                        id.at,
                        format!("`{}` is no unique id; it is made of digits", id.value),
                        "write the digits in quotes, or remove it",
                    );
                } else if let Some(account) = self.accounts.get_mut(&email) {
                    account.unique_id.clone_from(&id.value);
                }
            }
        }
    }

    /// Notes a service account that is used somewhere; returns its email.
    pub(crate) fn account(&mut self, email: &str, used_in: &str) -> String {
        if !self.accounts.contains_key(email) {
            let domain = email.split_once('@').map_or("", |(_, domain)| domain);
            let number = email.split_once("-compute@developer").and_then(|(n, _)| n.parse().ok());
            let project = match domain.strip_suffix(".iam.gserviceaccount.com") {
                Some(project) => project.to_owned(),
                None => number
                    .and_then(|number: u64| self.model.numbers.get(&number))
                    .map_or_else(|| used_in.to_owned(), |id| id.to_string()),
            };
            let account = run::ServiceAccount {
                email: email.to_owned(),
                project,
                unique_id: derive::unique_id(email),
            };
            self.accounts.insert(email.to_owned(), account);
        }
        email.to_owned()
    }
}

/// `LOCAL@DOMAIN`.
pub(crate) fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !text.contains(':')
            && !text.contains(char::is_whitespace)
            && crate::names_rules::is_hostname(domain)
    })
}
