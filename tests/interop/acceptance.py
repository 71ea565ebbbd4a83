"""Starts the sandbox as the API and the built binary with every door, and runs the acceptance suites against them."""
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

# A caret and a colon in the name, or a colon in the password, would need quoting that the suite's drivers do not do.
USER, PASSWORD = "app", "s3cret ^ pass"
# What the binary promises: a test of one of these fails, rather than be skipped, when it is not offered.
PROMISED = ("starttls,auth,auth-plain,auth-login,chunking,8bitmime,pipelining,size,sizelimit,enhancedstatuscodes,tls,creds,"
            "lmtp,smtputf8,proxy,proxy1,proxy2,sink,log,pid,shutdown,rcptlimit,rcpt5xx,rcpt4xx,rcptslow")
FAR_END = {"SMTP_RCPT_5XX": "suppressed1@example.com", "SMTP_RCPT_4XX": "fail-inf1@example.com",
           "SMTP_RCPT_SLOW": "slow-5000@example.com"}

class Server:
    """A process that ends with its `with`."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Api(Server):
    """The sandbox, which writes what it took into a folder."""

    def __init__(self, binary, folder):
        command = [binary, "sandbox", "--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0",
                   "--set", "providers.sandbox.utf8_addresses=true"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = [self.process.stdout.readline() for _ in range(3)][-1].split()[-1].rstrip("/")
        self.sink, self.seen = folder / "sink", set()
        self.sink.mkdir()
        threading.Thread(target=self.collect, daemon=True).start()

    def get(self, path):
        return urllib.request.urlopen(self.url + path).read()

    def payload(self, mail):
        try:
            return self.get("/sandbox/mails/" + mail["id"])
        except urllib.error.HTTPError:
            return b""  # The sandbox keeps the newest only, and this one has had to go.

    def collect(self):
        while self.process.poll() is None:
            time.sleep(0.2)
            try:
                mails = json.loads(self.get("/sandbox/mails"))["mails"]
            except OSError:
                return  # The end.
            for mail in mails:
                if mail["id"] in self.seen:
                    break
                self.seen.add(mail["id"])
                # Only mails with a token are looked for.
                payload = self.payload(mail) if mail["taken"] else b""
                if re.search(rb"tok[0-9a-f]{32}", payload):
                    whole = self.sink.with_name("mail")
                    whole.write_text("\n".join(texts(json.loads(payload)["payload"])))
                    whole.rename(self.sink / mail["id"])


def texts(value):
    """All strings in a JSON value: in JSON's own spelling no line end would be found."""
    if isinstance(value, (list, dict)):
        return [text for one in (value.values() if isinstance(value, dict) else value) for text in texts(one)]
    return [value] if isinstance(value, str) else []


class Relay(Server):
    """The binary with every door, on free ports."""

    def __init__(self, binary, folder, api, *more):
        listen = ["smtp://127.0.0.1:0", "smtps://127.0.0.1:0", "lmtp://127.0.0.1:0", "smtp://127.0.0.1:0?proxy=require"]
        cert, key = certificate(folder)
        shown = subprocess.run([binary, "hash-password"], input=PASSWORD, capture_output=True, text=True, check=True)
        (folder / "users").write_text(f"{USER}:{shown.stdout.strip()}\n")
        settings = [f"smtp.listen={json.dumps(listen)}", f"smtp.tls.cert={cert}", f"smtp.tls.key={key}",
                    f"smtp.auth.users_file={folder / 'users'}", "smtp.max_connections_per_client=1000",
                    "web.listen=127.0.0.1:0", "providers.main.kind=scaisend", "providers.main.api_key=any",
                    f"providers.main.base_url={api.url}", "providers.main.rate=10000/s", "providers.main.burst=1000",
                    # The next mail must not suffer from one that was refused on purpose.
                    "providers.main.probe_interval=50ms", "providers.main.utf8_addresses=true", *more]
        self.log, self.sink = folder / "log", api.sink
        with open(self.log, "w") as log:
            command = [binary, "serve"] + [word for setting in settings for word in ("--set", setting)]
            self.process = subprocess.Popen(command, stderr=log)
        self.smtp, self.smtps, self.lmtp, self.proxy = self.addresses(len(listen))

    def addresses(self, count):
        while True:
            lines = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            found = [line["smtp"] for line in lines if line["message"] == "listening"]
            if len(found) == count:
                return found
            if self.process.poll() is not None:
                sys.exit(self.log.read_text())

    def told(self):
        """What the protocol suite is told of it."""
        return {"SMTP_ADDR": self.smtp, "SMTP_TLS_ADDR": self.smtps, "LMTP_ADDR": self.lmtp, "PROXY_ADDR": self.proxy,
                "SMTP_USER": USER, "SMTP_PASS": PASSWORD, "SERVER_PID": str(self.process.pid),
                "SERVER_LOG": str(self.log), "SINK_DIR": str(self.sink), **FAR_END}

def certificate(folder):
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not cert.exists():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def protocol(suites, title, told, *arguments):
    """One run of the protocol suite: prints what was skipped or failed, and the summary. Whether nothing failed."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, suites / "protocol/report.py", "--json", report.name, *arguments]
        done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            print(done.stdout + done.stderr)
            return False
        found = json.load(open(report.name))
    reasons = [found["why"].get(test, "") for test, result in found["tests"].items() if result == "skipped"]
    for reason in sorted(set(reasons)):
        print(f"  skipped {reasons.count(reason):3}  {reason}")
    for test, result in found["tests"].items():
        if result == "failed":
            print(f"  FAILED {test}: {found['why'].get(test)}")
    print(f"protocol, {title}:{done.stdout.splitlines()[-1]}", flush=True)
    return done.returncode == 0


def matrix(suites, title, address, *arguments):
    """One run of the client matrix: prints it with the code that each client showed. Whether every cell is right."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, suites / "clients/clients.py", "--addr", address, "--json", report.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            print(done.stdout + done.stderr)
            return False
        cells = json.load(open(report.name))["results"]
    mails = list(dict.fromkeys(cell["mail"] for cell in cells if "mail" in cell))
    print(f"\n{title:17}" + "".join(f" {mail:>11}" for mail in mails))
    for client in dict.fromkeys(cell["client"] for cell in cells):
        row = {cell.get("mail"): cell for cell in cells if cell["client"] == client}
        missing = row.get(None, {}).get("missing")
        words = f" MISSING: {missing}" if missing else "".join(f" {word(row[mail]):>11}" for mail in mails)
        print(f"{client:17}{words}")
    wrong = [cell for cell in cells if cell.get("problem")]
    for cell in wrong:
        print(f"  FAILED {cell['client']} {cell['mail']}: {cell['problem']}: {cell['shown']}")
    sent, missing = sum("mail" in cell for cell in cells), sum("missing" in cell for cell in cells)
    clients = len({cell["client"] for cell in cells}) - missing
    print(f"clients, {title}: {clients} clients, {sent} mails, {len(wrong)} unexpected, {missing} clients missing", flush=True)
    return not wrong


def word(cell):
    if cell["problem"]:
        return "WRONG"
    if cell["accepted"]:
        return "ok"
    # The words may name the API's own status, too.
    code = re.search(rf"\b({cell['want'][0] if cell['want'].endswith('xx') else '[45]'}\d\d)\b", cell["shown"])
    return code.group(1) if code else "refused"


def main(binary, suites):
    suites, good = Path(suites), []
    with tempfile.TemporaryDirectory(prefix="acceptance-") as folder, Api(binary, Path(folder)) as api:

        def relay(*more):
            return Relay(binary, Path(folder), api, *more)

        with relay() as open_to_all:
            told = {**open_to_all.told(), "SHUTDOWN": "1", "REQUIRE": PROMISED}
            good.append(protocol(suites, "no AUTH needed", told))
        with relay("smtp.auth.required=true", "smtp.tls.required=true") as closed:
            told = {**closed.told(), "AUTH_REQUIRED": "1", "AUTH_TLS_ONLY": "1", "CAPS": "authtiming",
                    "REQUIRE": "authrequired,authtlsonly,authtiming"}
            good.append(protocol(suites, "AUTH and TLS needed", told, "-k", "test_10 or test_11"))
        # One attempt: each of the many refusals on purpose would take its time else.
        with relay("delivery.max_attempts=1") as doors:
            login = ("--auth", f"{USER}:{PASSWORD}")
            good.append(matrix(suites, "plain", doors.smtp))
            good.append(matrix(suites, "plain with AUTH", doors.smtp, *login))
            good.append(matrix(suites, "STARTTLS, AUTH", doors.smtp, "--tls", "starttls", *login))
            good.append(matrix(suites, "TLS, AUTH", doors.smtps, "--tls", "implicit", *login))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
