"""Foreign clients against a running topology: Google's own Python libraries, grpcio, websockets, curl,
wrk, h2load, nghttp, testssl.sh, and DNS clients.

    python tests/foreign/run.py PATH_TO_POSTERN

Brings topology/apigee-psc-cloud-run up, runs each client script inside `postern exec` as the API
proxy's service account, in the API platform's tenant network and in the producer's, and takes it
down again. Exits non-zero if any client fails.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TENANT = "apigee-tenant/runtime"
PRODUCER = "ilb-project/ilb-network"
ACCOUNT = "apigee-apiproxy@apigee-project.iam.gserviceaccount.com"


def main():
    postern = str(pathlib.Path(sys.argv[1]).resolve())
    passed, failed = 0, 0
    with tempfile.TemporaryDirectory(prefix="pf") as state:
        base = [postern, "--state-dir", state]
        subprocess.run(
            base + ["up", "--detach", "--northbound", "127.0.0.1:0", "topology/apigee-psc-cloud-run"],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
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
            ]:
                command = base + ["exec", "--network", network, "--as", ACCOUNT, "--",
                                  sys.executable, str(HERE / script), ACCOUNT]
                print(f"--- {script} in {network}", flush=True)
                done = subprocess.run(command, cwd=ROOT, timeout=300)
                if done.returncode == 0:
                    passed += 1
                else:
                    failed += 1
                    print(f"FAILED: {script} in {network}", flush=True)
        finally:
            if failed:
                subprocess.run(base + ["logs"], cwd=ROOT)
            subprocess.run(base + ["down"], cwd=ROOT, check=False)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main())
