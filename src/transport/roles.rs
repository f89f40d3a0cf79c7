//! Who may do what.

use std::sync::Arc;

/// What a peer is to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes tasks and hands answers in.
    Worker,
    /// Hands sweeps in and steers them; may also look.
    Client,
    /// Looks.
    ReadOnly,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Worker, Role::Client, Role::ReadOnly];

    /// As token files and certificates spell it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::Client => "client",
            Role::ReadOnly => "read-only",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == text)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    pub const NONE: Roles = Roles(0);
    pub const ALL: Roles = Roles(0b111);

    /// The role and what it includes.
    pub fn of(role: Role) -> Roles {
        match role {
            Role::Worker => Roles(0b001),
            Role::Client => Roles(0b110),
            Role::ReadOnly => Roles(0b100),
        }
    }

    #[must_use]
    pub fn and(self, other: Roles) -> Roles {
        Roles(self.0 | other.0)
    }

    /// What both allow.
    #[must_use]
    pub fn common(self, other: Roles) -> Roles {
        Roles(self.0 & other.0)
    }

    pub fn has(self, role: Role) -> bool {
        let needed = match role {
            Role::Worker => 0b001,
            Role::Client => 0b010,
            Role::ReadOnly => 0b100,
        };
        self.0 & needed != 0
    }

    /// `worker`, `client,worker` and so on.
    pub fn parse(text: &str) -> Option<Roles> {
        let roles = text.split(',').map(|word| Role::parse(word.trim()).map(Roles::of));
        roles.collect::<Option<Vec<_>>>().map(|roles| roles.into_iter().fold(Roles::NONE, Roles::and))
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = match *self {
            Roles::ALL => vec!["worker", "client"],
            _ if self.has(Role::Client) => vec!["client"],
            _ => Role::ALL.into_iter().filter(|role| self.has(*role)).map(Role::name).collect(),
        };
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

/// A peer that has proved who it is: on every accepted call, for the services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of its token or certificate; it stays when these are renewed.
    pub name: Arc<str>,
    pub roles: Roles,
}

/// Names of tokens, certificates and workers stand in logs and tables.
pub fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    text.len() <= 64
        && chars.next().is_some_and(|first| first.is_ascii_alphanumeric() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_look_and_nobody_else_may_do_anothers_work() {
        let allowed = |role| Role::ALL.map(|wanted| Roles::of(role).has(wanted));
        assert_eq!(allowed(Role::Worker), [true, false, false]);
        assert_eq!(allowed(Role::Client), [false, true, true]);
        assert_eq!(allowed(Role::ReadOnly), [false, false, true]);
        assert_eq!(Roles::parse("worker,client"), Some(Roles::ALL));
        assert_eq!(Roles::parse("worker,admin"), None);
        assert_eq!(Roles::parse("read-only").unwrap().to_string(), "read-only");
        assert_eq!(Roles::ALL.to_string(), "worker,client");
        assert!(!Roles::NONE.has(Role::ReadOnly));
    }

    #[test]
    fn names_can_stand_in_files_and_tables() {
        for good in ["gpu-7.example", "_a", "host-123.2", &"a".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-n", "a/b", "a b", "a\n", "a\u{1b}[2J", "ü", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
