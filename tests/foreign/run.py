"""Foreign clients against a running topology: Google's own Python and Node libraries, gcloud, grpcio,
websockets, curl, wrk, h2load, nghttp, testssl.sh, and DNS clients.

    python tests/foreign/run.py PATH_TO_POSTERN [SCRIPT...]

What needs a program that is not here is skipped, and says so.

Brings topology/apigee-psc-cloud-run up, runs each client script inside `postern exec` as the API
proxy's service account, in the API platform's tenant network and in the producer's, and takes it
down again. Exits non-zero if any client fails.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TENANT = "apigee-tenant/runtime"
PRODUCER = "ilb-project/ilb-network"
ACCOUNT = "apigee-apiproxy@apigee-project.iam.gserviceaccount.com"


# An account that ACCOUNT may act as.
TARGET = "apps@ilb-project.iam.gserviceaccount.com"
# google-auth-library lives here, where .ci/run installs it.
NODE_MODULES = ROOT / "target" / "foreign-node" / "node_modules"


def runner(script):
    """The program that runs a script, or why it cannot be run here."""
    if script == "gcloud_client.sh" and not shutil.which("gcloud"):
        return None, "gcloud is not installed"
    if script.endswith(".js"):
        node = shutil.which("node")
        if not node:
            return None, "node is not installed"
        if not (NODE_MODULES / "google-auth-library").is_dir():
            return None, f"google-auth-library is not in {NODE_MODULES}"
        return node, None
    return ("sh" if script.endswith(".sh") else sys.executable), None


def main():
    postern = str(pathlib.Path(sys.argv[1]).resolve())
    passed, failed, skipped = 0, 0, 0
    wanted = sys.argv[2:]
    # Workloads do not see the state directory.
    with tempfile.TemporaryDirectory(prefix="pf") as state, tempfile.TemporaryDirectory() as shown:
        base = [postern, "--state-dir", state]
        subprocess.run(
            base + ["up", "--detach", "--northbound", "127.0.0.1:0", "topology/apigee-psc-cloud-run"],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        key_file = os.path.join(shown, "caller.json")
        subprocess.run(base + ["keys", "create", ACCOUNT, "--out", key_file], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)
        environment = dict(os.environ, KEY_FILE=key_file, TARGET_ACCOUNT=TARGET,
                           NODE_PATH=str(NODE_MODULES))
        try:
            for network, script in [
                (TENANT, "google_auth_client.py"),
                (TENANT, "grpc_client.py"),
                (TENANT, "websocket_client.py"),
                (TENANT, "websocket_h2_client.py"),
                (TENANT, "http_client.py"),
                (TENANT, "dns_client.py"),
                (PRODUCER, "dns_client.py"),
                (TENANT, "load_clients.py"),
                (PRODUCER, "load_clients.py"),
                (PRODUCER, "testssl_client.py"),
                (PRODUCER, "google_auth_client.py"),
                (TENANT, "identity_client.py"),
                (TENANT, "identity_client.js"),
                (TENANT, "curl_client.sh"),
                (TENANT, "gcloud_client.sh"),
            ]:
                if wanted and script not in wanted:
                    continue
                program, why_not = runner(script)
                if why_not:
                    print(f"SKIPPED: {script}: {why_not}", flush=True)
                    skipped += 1
                    continue
                command = base + ["exec", "--network", network, "--as", ACCOUNT, "--",
                                  program, str(HERE / script), ACCOUNT]
                print(f"--- {script} in {network}", flush=True)
                done = subprocess.run(command, cwd=ROOT, timeout=300, env=environment)
                if done.returncode == 0:
                    passed += 1
                else:
                    failed += 1
                    print(f"FAILED: {script} in {network}", flush=True)
        finally:
            if failed:
                subprocess.run(base + ["logs"], cwd=ROOT)
            subprocess.run(base + ["down"], cwd=ROOT, check=False)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main())
