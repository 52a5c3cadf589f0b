//! A small organization, and who may do what in it.

use crate::*;
use slice::iam::{Binding, Group, Policy, Role};

const SERVICE: &str = "projects/p/locations/r/services/s";
const ACCOUNT: &str = "projects/p/serviceAccounts/a@p.iam.gserviceaccount.com";

fn policy(resource: &str, role: &str, members: &[&str]) -> Policy {
    Iam::granting(role, resource, members).policies.remove(0)
}

fn iam() -> Iam {
    Iam {
        policies: vec![
            policy(
                SERVICE,
                "roles/run.invoker",
                &["serviceAccount:Near@p.iam.gserviceaccount.com"],
            ),
            policy("projects/p", "roles/editor", &["user:editor@example.com"]),
            policy("folders/2", "roles/run.servicesInvoker", &["group:all@example.com"]),
            policy("organizations/1", "roles/owner", &["domain:owners.example"]),
            policy("projects/p", "projects/p/roles/caller", &["user:custom@example.com"]),
            policy("projects/p", "projects/p/roles/none", &["user:off@example.com"]),
            policy("projects/other", "roles/run.invoker", &["user:stranger@example.com"]),
            policy(ACCOUNT, "roles/iam.serviceAccountTokenCreator", &["user:tc@example.com"]),
            policy(
                "projects/p/secrets/k",
                "roles/secretmanager.secretAccessor",
                &["allAuthenticatedUsers", "deleted:user:gone@example.com?uid=1"],
            ),
        ],
        ancestors: [("p".to_owned(), vec!["folders/2".to_owned(), "organizations/1".to_owned()])]
            .into(),
        roles: vec![
            Role {
                name: "projects/p/roles/caller".into(),
                permissions: vec!["run.routes.invoke".into()],
            },
            Role { name: "projects/p/roles/none".into(), permissions: vec![] },
        ],
        groups: vec![
            Group {
                email: "All@example.com".into(),
                members: vec!["dev@example.com".into(), "inner@example.com".into()],
            },
            Group {
                email: "inner@example.com".into(),
                members: vec!["robot@q.iam.gserviceaccount.com".into(), "all@example.com".into()],
            },
        ],
    }
}

#[test]
fn who_may_do_what() {
    use Permission::*;
    let policies = Policies::new(&iam());
    let creator = "roles/iam.serviceAccountTokenCreator";
    for (email, permission, resource, held_by) in [
        (
            "near@p.iam.gserviceaccount.com",
            RunRoutesInvoke,
            SERVICE,
            Some((SERVICE, "roles/run.invoker")),
        ),
        (
            "NEAR@P.iam.gserviceaccount.com",
            RunRoutesInvoke,
            SERVICE,
            Some((SERVICE, "roles/run.invoker")),
        ),
        (
            "near@p.iam.gserviceaccount.com",
            RunRoutesInvoke,
            "projects/p/locations/r/services/t",
            None,
        ),
        ("editor@example.com", RunRoutesInvoke, SERVICE, Some(("projects/p", "roles/editor"))),
        ("editor@example.com", SecretVersionsAccess, "projects/p/secrets/j", None),
        ("editor@example.com", GetOpenIdToken, ACCOUNT, None),
        (
            "dev@example.com",
            RunRoutesInvoke,
            SERVICE,
            Some(("folders/2", "roles/run.servicesInvoker")),
        ),
        (
            "robot@q.iam.gserviceaccount.com",
            RunRoutesInvoke,
            SERVICE,
            Some(("folders/2", "roles/run.servicesInvoker")),
        ),
        ("me@owners.example", RunRoutesInvoke, SERVICE, Some(("organizations/1", "roles/owner"))),
        (
            "me@owners.example",
            SecretVersionsAccess,
            "projects/p/secrets/j",
            Some(("organizations/1", "roles/owner")),
        ),
        ("me@owners.example", GetAccessToken, ACCOUNT, None),
        ("me@owners.example", RunRoutesInvoke, "projects/other/locations/r/services/s", None),
        (
            "custom@example.com",
            RunRoutesInvoke,
            SERVICE,
            Some(("projects/p", "projects/p/roles/caller")),
        ),
        ("off@example.com", RunRoutesInvoke, SERVICE, None),
        ("stranger@example.com", RunRoutesInvoke, SERVICE, None),
        ("tc@example.com", GetAccessToken, ACCOUNT, Some((ACCOUNT, creator))),
        ("tc@example.com", GetOpenIdToken, ACCOUNT, Some((ACCOUNT, creator))),
        ("tc@example.com", ImplicitDelegation, ACCOUNT, Some((ACCOUNT, creator))),
        ("tc@example.com", SignJwt, ACCOUNT, Some((ACCOUNT, creator))),
        ("tc@example.com", SignBlob, ACCOUNT, Some((ACCOUNT, creator))),
        ("tc@example.com", RunRoutesInvoke, SERVICE, None),
        (
            "gone@example.com",
            SecretVersionsAccess,
            "projects/p/secrets/k",
            Some(("projects/p/secrets/k", "roles/secretmanager.secretAccessor")),
        ),
    ] {
        let access = policies.access(permission, resource);
        let grant = access.check(Principal::of_email(email));
        let found = grant.ok().map(|grant| (grant.resource.as_str(), grant.role.as_str()));
        assert_eq!(found, held_by, "{email} {permission:?} {resource}");
    }
}

#[test]
fn nobody_and_anybody() {
    let of = |member: &str| {
        let iam = Iam::granting("roles/run.invoker", SERVICE, &[member]);
        let access = Policies::new(&iam).access(Permission::RunRoutesInvoke, SERVICE);
        let user = Principal::User("u@example.com");
        [Principal::Anonymous, Principal::Unnamed, user].map(|who| access.check(who).is_ok())
    };
    assert_eq!(of("allUsers"), [true, true, true]);
    assert_eq!(of("allAuthenticatedUsers"), [false, true, true]);
    assert_eq!(of("domain:example.com"), [false, false, true]);
    assert_eq!(of("user:other@example.com"), [false, false, false]);
}

#[test]
fn what_is_missing_is_said() {
    let members = ["group:g@example.com", "user:b@example.com"];
    let iam = Iam::granting("roles/run.invoker", SERVICE, &members);
    let access = Policies::new(&iam).access(Permission::RunRoutesInvoke, SERVICE);
    let denied = access.check(Principal::User("a@example.com")).expect_err("not a member");
    assert_eq!(denied.missing_member.as_deref(), Some("user:a@example.com"));
    assert_eq!(denied.unresolved, ["group:g@example.com"]);
    assert_eq!(
        denied.to_string(),
        format!(
            "user:a@example.com lacks run.routes.invoke on {SERVICE}; held by: group:g@example.com, user:b@example.com (who belongs to group:g@example.com cannot be known here)"
        )
    );
    let fix = denied.fix().expect("a binding");
    assert!(fix.contains("role: roles/run.invoker, members: ['user:a@example.com']"), "{fix}");
    assert_eq!(access.check(Principal::Unnamed).expect_err("nobody").fix(), None);
}

#[test]
fn every_role_that_holds_something_is_known() {
    use Permission::*;
    for permission in [
        RunRoutesInvoke,
        GetAccessToken,
        GetOpenIdToken,
        ImplicitDelegation,
        SignBlob,
        SignJwt,
        SecretVersionsAccess,
    ] {
        assert!(!permission.roles().is_empty());
        for role in permission.roles() {
            assert!(KNOWN_ROLES.contains(role), "{role}");
        }
    }
    let unused = Binding { role: "roles/viewer".into(), members: vec!["allUsers".into()] };
    let policy = Policy { resource: SERVICE.into(), bindings: vec![unused] };
    let iam = Iam { policies: vec![policy], ..Iam::default() };
    assert!(Policies::new(&iam).access(RunRoutesInvoke, SERVICE).all_users().is_none());
}
