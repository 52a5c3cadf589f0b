"""testssl.sh against the load balancer's front end: nothing worse than LOW.

Not counted is what belongs to others: the leaves of the development CA have no end and no revocation
list, and security headers are the service's own. WARN says that this machine's openssl cannot test
something, not that something is wrong.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

OF_OTHERS = {
    "cert_revocation", "cert_chain_of_trust", "cert_crlDistributionPoints", "cert_ocspURL",
    "cert_validityPeriod", "security_headers",
}
SMALL = {"OK", "INFO", "LOW", "DEBUG", "WARN"}

program = shutil.which("testssl") or shutil.which("testssl.sh")
assert program, "testssl.sh is not installed"
with tempfile.TemporaryDirectory() as folder:
    report = os.path.join(folder, "report.json")
    command = [program, "--quiet", "--warnings", "off", "--color", "0", "--fast", "--nodns", "none",
               "--ip", "10.0.0.5", "--jsonfile", report, "internal.example.com:443"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert os.path.exists(report), done.stdout[-2000:] + done.stderr[-2000:]
    with open(report, encoding="utf-8") as file:
        findings = json.load(file)
bad = [
    f"{one['severity']} {one['id']}: {one['finding']}"
    for one in findings
    if one["severity"] not in SMALL and one["id"].split(" ")[0] not in OF_OTHERS
]
names = {one["id"] for one in findings}
assert {"TLS1_2", "TLS1_3", "heartbleed", "ROBOT"} <= names, f"not all was looked at: {sorted(names)}"
if bad:
    sys.exit("\n".join(bad))
print(f"testssl.sh: ok, {len(findings)} findings")
