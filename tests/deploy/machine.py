"""A small Debian whose first process is a real systemd (systemd-nspawn), on the network of the caller.

Nothing that happens in it stays: each boot begins with the tree that debootstrap made.
"""

import os
import pathlib
import subprocess
import time

TOP = pathlib.Path(__file__).parents[2]
ROOT = TOP / ".test-env/debian"
# procps: what the package depends on, and there is no registry inside.
PACKAGES = "systemd,systemd-sysv,dbus,procps"


def mirror():
    """Where this machine gets its own packages from."""
    ask = ["apt-get", "indextargets", "--format", "$(SITE)", "Codename: bookworm"]
    sources = subprocess.run(ask, check=True, capture_output=True, text=True)
    return sources.stdout.split()[0]


def make_root():
    """Once: a minute or two, and 250 MB."""
    if (ROOT / "sbin/init").exists():
        return
    unfinished = ROOT.with_suffix(".new")
    subprocess.run(["rm", "-rf", unfinished], check=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", unfinished, mirror()],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    # Who answers questions of the first boot is not there.
    (unfinished / "etc/machine-id").write_text("uninitialized\n")
    (unfinished / "etc/systemd/system/systemd-firstboot.service").symlink_to("/dev/null")
    unfinished.rename(ROOT)


class Machine:
    def __init__(self, packages):
        """Boots; `packages` is a folder that is seen inside as /packages."""
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--boot"]
            + ["--directory", ROOT, f"--bind-ro={packages}:/packages", "--console=pipe"]
            # What nspawn denies and a machine would not.
            + ["--system-call-filter=@aio io_uring_setup io_uring_enter io_uring_register"]
            + ["--rlimit=RLIMIT_NOFILE=1048576"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.leader = None
        deadline = time.monotonic() + 90
        while self.state() not in ["running", "degraded"]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the machine did not boot")
            time.sleep(0.2)

    def find_leader(self):
        """The machine's first process as the caller's /proc numbers it; nspawn has passing children, too."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split() if children.exists() else []:
            name = pathlib.Path(f"/proc/{child}/comm")
            if name.exists() and name.read_text() == "systemd\n":
                return child
        return None

    def state(self):
        self.leader = self.find_leader()
        if self.leader is None:
            return "starting"
        return self.run("systemctl", "is-system-running", check=False).strip()

    def run(self, *command, check=True):
        """What a command in the machine prints; all of it stands in the error when it fails."""
        inside = ["nsenter", "--target", self.leader, "--all", *command]
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(inside, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}")
        return done.stdout

    def show(self, name, unit="ringway.service"):
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def host_pid(self):
        """The gateway's process as the caller's /proc numbers it."""
        inside = self.show("MainPID")
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            numbers = next((line.split()[1:] for line in text.splitlines() if line.startswith("NSpid:")), [])
            if text.startswith("Name:\tringway\n") and len(numbers) > 1 and numbers[-1] == inside:
                return int(numbers[0])
        raise AssertionError(f"no process {inside} in the machine")

    def write(self, path, text):
        self.run("sh", "-c", f"cat > {path} <<'END'\n{text}\nEND")

    def halt(self):
        if self.process.poll() is None:
            self.run("systemctl", "poweroff", "--force", check=False)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.kill(self.process.pid, 15)
                self.process.wait()
