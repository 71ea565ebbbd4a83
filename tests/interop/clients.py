"""Drives the built binary with foreign clients and checks what each was told, and what reached the API."""
import json
import smtplib
import subprocess
import sys
import tempfile
import urllib.request
from email.message import EmailMessage

passed = failed = 0


class Sandbox:
    """A relay of its own on free ports."""

    def __init__(self, binary, *more):
        command = [binary, "sandbox", "--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.smtp = self.process.stdout.readline().split()[-1]
        self.process.stdout.readline()
        self.page = self.process.stdout.readline().split()[-1]
        self.host, self.port = self.smtp.split(":")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def payload(self):
        """The newest request that reached the API."""
        newest = json.load(urllib.request.urlopen(self.page + "sandbox/mails"))["mails"][0]
        payload = json.load(urllib.request.urlopen(self.page + "sandbox/mails/" + newest["id"]))["payload"]
        return json.loads(payload) if isinstance(payload, str) else payload


def check(what, good, seen):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok    ' if good else 'FAILED'} {what}" + ("" if good else f": {seen!r}"), flush=True)


def mail(to="ok@example.com", body="hello\n.\n..two\n"):
    return f"From: App <app@example.com>\r\nTo: {to}\r\nSubject: interop\r\n\r\n" + body.replace("\n", "\r\n")


def swaks(box, recipient, *more):
    command = ["swaks", "--server", box.smtp, "--from", "app@example.com", "--to", recipient, *more]
    return subprocess.run(command, capture_output=True, text=True)


# What `swaks` is told for each outcome: the table of the README.
OUTCOMES = [
    ("ok", "250 2.0.0"), ("suppressed", "550 5.7.1"), ("invalid", "550 5.1.3"), ("rate-1-1", "250 2.0.0"),
    ("rate-9-600", "451 4.4.5"), ("fail-1", "250 2.0.0"), ("fail-inf", "451 4.3.2"), ("hang", "451 4.4.2"),
    ("unauth", "451 4.3.5"), ("toolarge", "552 5.3.4"), ("garbage", "451 4.3.5"), ("reset", "451 4.4.2"),
    # The API is asked, and has it.
    ("acceptreset", "250 2.0.0"),
]


def with_swaks(binary):
    for recipient, reply in OUTCOMES:
        # One relay each: some outcomes pause the account.
        with Sandbox(binary) as box:
            said = swaks(box, recipient + "@example.com").stdout
            final = said.split(" -> .\n")[-1].splitlines()[0]
            check(f"swaks {recipient}@: {final[4:]}", reply in final, said)
    with Sandbox(binary) as box:
        with tempfile.NamedTemporaryFile("wb", suffix=".bin") as file:
            file.write(bytes(range(256)) * 40)
            file.flush()
            said = swaks(box, "ok@example.com,second@example.com", "--attach", "@" + file.name, "--body", "see file",
                         "--add-header", "X-Order: 7")
            sent = box.payload()
            check("swaks with an attachment", said.returncode == 0, said.stdout)
            check("  the attachment arrived whole", len(sent["attachments"][0]["content"]) == 13656, sent)
            check("  the header went along", sent["headers"]["X-Order"] == "7", sent)
        said = swaks(box, "ok@example.com", "--pipeline")
        check("swaks --pipeline", said.returncode == 0, said.stdout)
        said = swaks(box, "ok@example.com", "--protocol", "SMTP")
        check("swaks with HELO", said.returncode == 0, said.stdout)


def with_swaks_after_a_bounce(binary):
    """The API's signed event comes in, and the next RCPT is refused, until an operator takes the address off the list."""
    with Sandbox(binary) as box:
        swaks(box, "bounce@example.com")
        said = ""
        for _ in range(100):
            said = swaks(box, "bounce@example.com", "--quit-after", "RCPT").stdout
            if "550 5.7.1" in said:
                break
        check("swaks after a bounce: 550 at RCPT", "<bounce@example.com> suppressed: bounce on " in said, said)
        command = [binary, "suppressions", "remove", "bounce@example.com", "--url", box.page.rstrip("/")]
        removed = subprocess.run(command, capture_output=True, text=True)
        check("  sidepost suppressions remove", removed.returncode == 0, removed.stderr)
        said = swaks(box, "bounce@example.com").stdout
        check("  and the mail goes out", "250 2.0.0 Ok" in said, said)


def with_swaks_through_every_door(binary):
    """TLS, AUTH, LMTP and a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        cert, key, path = folder + "/cert.pem", folder + "/key.pem", folder + "/smtp.sock"
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
        subprocess.run([*make, "-keyout", key, "-out", cert], check=True, capture_output=True)
        hashed = subprocess.run([binary, "hash-password"], input="s3cret ^ pass", capture_output=True, text=True).stdout
        with open(folder + "/users", "w") as users:
            users.write("app:" + hashed)
        login = ["--auth-user", "app", "--auth-password", "s3cret ^ pass"]
        doors = [
            ("--tls", "smtp://127.0.0.1:0", ["--tls"], "250 2.0.0"),
            ("--tls --auth PLAIN", "smtp://127.0.0.1:0", ["--tls", "--auth", "PLAIN", *login], "250 2.0.0"),
            ("--tls --auth LOGIN", "smtp://127.0.0.1:0", ["--tls", "--auth", "LOGIN", *login], "250 2.0.0"),
            ("--auth with a wrong password", "smtp://127.0.0.1:0", ["--auth", "PLAIN", *login, "--auth-password", "x"],
             "535 5.7.8"),
            ("--tls-on-connect", "smtps://127.0.0.1:0", ["--tls-on-connect"], "250 2.0.0"),
            ("--protocol LMTP", "lmtp://127.0.0.1:0", ["--protocol", "LMTP"], "250 2.0.0"),
            ("--socket", "smtp+unix://" + path, ["--server", "", "--socket", path], "250 2.0.0"),
            ("--socket --protocol LMTP", "lmtp+unix://" + path, ["--server", "", "--socket", path, "--protocol", "LMTP"],
             "250 2.0.0"),
        ]
        for title, door, options, reply in doors:
            listen = json.dumps(["smtp://127.0.0.1:0", door] if "unix" in door else [door])
            with Sandbox(binary, "--set", "smtp.listen=" + listen, "--set", "smtp.tls.cert=" + cert,
                         "--set", "smtp.tls.key=" + key, "--set", f"smtp.auth.users_file={folder}/users") as box:
                said = swaks(box, "ok@example.com", *options)
                check(f"swaks {title}: {reply}", reply in said.stdout, said.stdout + said.stderr)


def with_curl(box):
    def curl(recipient, text):
        command = ["curl", "-sS", f"smtp://{box.smtp}/client.test", "--mail-from", "app@example.com",
                   "--mail-rcpt", recipient, "-T", "-", "--crlf"]
        return subprocess.run(command, input=text.replace("\r\n", "\n"), capture_output=True, text=True)

    done = curl("ok@example.com", mail())
    check("curl", done.returncode == 0, done.stderr)
    check("  its text is whole", box.payload()["content"][0]["value"] == "hello\n.\n..two\n", box.payload())
    done = curl("suppressed@example.com", mail("suppressed@example.com"))
    check("curl is told of a refusal", done.returncode != 0, done.stderr)


def with_msmtp(box):
    def msmtp(recipient):
        command = ["msmtp", f"--host={box.host}", f"--port={box.port}", "--from=app@example.com", "--auth=off",
                   "--tls=off", recipient]
        return subprocess.run(command, input=mail(recipient), capture_output=True, text=True)

    done = msmtp("ok@example.com")
    check("msmtp", done.returncode == 0, done.stderr)
    done = msmtp("suppressed@example.com")
    check("msmtp shows the refusal", "550 5.7.1" in done.stderr, done.stderr)


def with_smtplib(box):
    message = EmailMessage()
    message["From"] = "Büro <app@example.com>"
    message["To"] = "Ann <ann@example.com>"
    message["Cc"] = "carl@example.com"
    message["Bcc"] = "hidden@example.com"
    message["Subject"] = "Grüße ✓"
    message.set_content("Grüße\n.\nend\n")
    message.add_alternative("<p>Grüße <img src='cid:logo'></p>", subtype="html")
    message.get_payload()[1].add_related(b"\x89PNG", "image", "png", cid="<logo>")
    message.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="Zahlen – Köln.csv")
    with smtplib.SMTP(box.host, int(box.port)) as client:
        refused = client.send_message(message)
        check("smtplib", refused == {}, refused)
        sent = box.payload()
        groups = [[m["email"] for part in ("to", "cc") for m in group.get(part, [])] for group in sent["personalizations"]]
        check("  To and Cc together, Bcc alone", groups == [["ann@example.com", "carl@example.com"], ["hidden@example.com"]], groups)
        check("  Bcc is in no other place", json.dumps(sent).count("hidden@") == 1, sent)
        check("  subject and names outside ASCII", (sent["subject"], sent["from"]["name"]) == ("Grüße ✓", "Büro"), sent)
        names = [(a["filename"], a["disposition"]) for a in sent["attachments"]]
        check("  inline image and file", [d for _, d in names] == ["inline", "attachment"] and names[1][0] == "Zahlen – Köln.csv", names)
        check("  text is whole", sent["content"][0]["value"].split() == ["Grüße", ".", "end"], sent["content"])
        try:
            client.sendmail("app@example.com", ["suppressed@example.com"], mail("suppressed@example.com"))
            check("smtplib is told of a refusal", False, "no exception")
        except smtplib.SMTPDataError as error:
            check("smtplib is told of a refusal", error.smtp_code == 550, error)
        check("smtplib goes on after it", client.sendmail("app@example.com", ["ok@example.com"], mail()) == {}, "refused")


def main(binary):
    with_swaks(binary)
    with_swaks_after_a_bounce(binary)
    with_swaks_through_every_door(binary)
    for clients in (with_curl, with_msmtp, with_smtplib):
        with Sandbox(binary) as box:
            clients(box)
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
