//! What the machine can enforce, found out by trying.

use super::child::{self, Namespaces};
use crate::{Capabilities, Wall};

/// The names of the walls of [`LinuxSandbox`](super::LinuxSandbox), in the order of its report.
pub mod wall {
    /// A command ends within its wall-clock limit.
    pub const WALL_CLOCK: &str = "wall-clock limit";
    /// What is kept of the output is bounded.
    pub const OUTPUT: &str = "output limit";
    /// CPU time, address space and file size of a single process are bounded.
    pub const RESOURCES: &str = "resource limits";
    /// The number of processes is bounded.
    pub const PROCESS_COUNT: &str = "process-count limit";
    /// No process of the command survives it.
    pub const CLEANUP: &str = "process clean-up";
    /// Nothing outside the writable folders can be written.
    pub const WRITE: &str = "write confinement";
    /// Hidden folders cannot be read.
    pub const HIDDEN: &str = "hidden folders";
    /// The network cannot be reached.
    pub const NETWORK: &str = "network";
    /// Other processes cannot be seen or signalled.
    pub const PROCESSES: &str = "process view";
    /// The command gains no rights that its user has not, and has not those of root.
    pub const PRIVILEGES: &str = "privileges";
}

/// The features in use.
#[derive(Debug, Clone)]
pub(super) struct Features {
    /// How PID name spaces are entered; `None` where they cannot.
    pub(super) namespaces: Option<Namespaces>,
    /// Whether a network name space is among them.
    pub(super) network: bool,
    /// Whether mounts can be changed for the command alone.
    pub(super) mounts: bool,
    /// Whether everything but the writable folders can be mounted read-only for the command alone.
    pub(super) read_only: bool,
    /// Whether `/proc` can show the command's processes only.
    pub(super) processes: bool,
    /// The version of Landlock's interface; 0 for none.
    pub(super) landlock: u32,
    /// Whether the harness runs as root.
    pub(super) root: bool,
}

impl Features {
    /// Tries everything that is not switched off.
    pub(super) fn detect(with_namespaces: bool, with_landlock: bool) -> Self {
        let (user, group) = child::identity();
        let mut features = Self {
            namespaces: None,
            network: false,
            mounts: false,
            read_only: false,
            processes: false,
            landlock: if with_landlock { child::landlock_version() } else { 0 },
            root: user == 0,
        };
        if with_namespaces {
            features.detect_namespaces(user, group);
        }
        features
    }

    /// Root can do without a user name space, in which it could not write files of other owners. Machines that forbid
    /// one kind of name space get the others.
    fn detect_namespaces(&mut self, user: u32, group: u32) {
        let map = (format!("{user} {user} 1\n").into_bytes(), format!("{group} {group} 1\n").into_bytes());
        let network = libc::CLONE_NEWNET | libc::CLONE_NEWIPC;
        for extra in [network, 0] {
            for identity in [None, Some(map.clone())] {
                let user = if identity.is_some() { libc::CLONE_NEWUSER } else { 0 };
                let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | extra | user;
                let namespaces = Namespaces { flags, identity };
                if let Some(probe) = child::probe(&namespaces) {
                    self.network = extra != 0;
                    self.mounts = probe.mounts;
                    self.read_only = probe.read_only;
                    self.processes = probe.processes;
                    self.namespaces = Some(namespaces);
                    return;
                }
            }
        }
    }

    /// The name spaces for one command.
    pub(super) fn namespaces_for(&self, network: bool) -> Option<Namespaces> {
        let mut namespaces = self.namespaces.clone()?;
        if network {
            namespaces.flags &= !(libc::CLONE_NEWNET | libc::CLONE_NEWIPC);
        }
        Some(namespaces)
    }

    /// Landlock before its third version does not know truncation, and before its second forbids every rename between
    /// folders, which no build survives.
    pub(super) const fn landlock_confinement(&self) -> bool {
        self.landlock >= 3
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        let walls = vec![
            Wall::new(wall::WALL_CLOCK, true, "SIGTERM at the limit, SIGKILL after a short grace"),
            Wall::new(wall::OUTPUT, true, "start and end are kept, the rest is read and dropped"),
            Wall::new(wall::RESOURCES, true, "resource limits of the kernel, for each process"),
            self.process_count(),
            self.cleanup(),
            self.write(),
            self.hidden(),
            self.network(),
            self.process_view(),
            self.privileges(),
        ];
        Capabilities { walls }
    }

    fn process_count(&self) -> Wall {
        let detail = if self.root {
            "the kernel exempts root; run as another user"
        } else {
            "a resource limit of the kernel, for all processes of the user"
        };
        Wall::new(wall::PROCESS_COUNT, !self.root, detail)
    }

    fn cleanup(&self) -> Wall {
        if self.namespaces.is_some() {
            return Wall::new(wall::CLEANUP, true, "a PID name space, which ends as a whole");
        }
        let detail = "orphans are found and killed one by one, which a program can outrun or, without Landlock 6, prevent by \
             killing their keeper; allow user name spaces";
        Wall::new(wall::CLEANUP, false, detail)
    }

    fn write(&self) -> Wall {
        let landlock = self.landlock_confinement();
        let detail = match (self.read_only, landlock) {
            (true, true) => "read-only mounts and Landlock",
            (true, false) => "read-only mounts",
            (false, true) => "Landlock, which does not cover modes, owners and times; allow user name spaces",
            (false, false) => "needs Landlock 3 (Linux 6.2) or a mount name space; allow user name spaces",
        };
        Wall::new(wall::WRITE, self.read_only || landlock, detail)
    }

    fn hidden(&self) -> Wall {
        let detail = if self.mounts {
            "an empty mount in a private mount name space"
        } else {
            "needs a mount name space; allow user name spaces"
        };
        Wall::new(wall::HIDDEN, self.mounts, detail)
    }

    fn network(&self) -> Wall {
        let (enforced, detail) = if self.network {
            (true, "a network name space with nothing but its own loopback")
        } else if self.landlock >= 4 {
            (false, "TCP is refused by Landlock; UDP and other protocols need a network name space")
        } else {
            (false, "needs a network name space; allow user name spaces")
        };
        Wall::new(wall::NETWORK, enforced, detail)
    }

    fn process_view(&self) -> Wall {
        let (enforced, detail) = match (self.processes, self.landlock >= 6) {
            (true, _) => (true, "a PID name space with its own /proc"),
            (false, true) => (false, "signals are refused by Landlock; /proc shows the machine's processes"),
            (false, false) => (false, "needs a PID name space and the right to mount /proc"),
        };
        Wall::new(wall::PROCESSES, enforced, detail)
    }

    fn privileges(&self) -> Wall {
        let detail = if self.root {
            "the command runs as root, without most capabilities; run as another user"
        } else {
            "no-new-privileges"
        };
        Wall::new(wall::PRIVILEGES, !self.root, detail)
    }
}
