//! Further IMAP services of a lab server, each with settings of its own: other capabilities, TLS with a certificate made
//! for the test by an authority made for it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::server::{Cyrus, cyrus_ids, free_ports};
use crate::process::run;

impl Cyrus {
    /// Adds a service to a server that is not running: imapd with `settings` beside those of imapd.conf, over TLS from
    /// the first byte if `secure`. Gives its port on 127.0.0.1.
    pub fn offer(&self, name: &str, secure: bool, settings: &str) -> Result<u16> {
        let conf = self.root().join(format!("{name}.conf"));
        fs::write(&conf, format!("@include: {}\n{settings}", self.imapd_conf().display()))?;
        let port = free_ports()?.imap;
        let services = self.root().join("cyrus.conf");
        let text = fs::read_to_string(&services)?;
        let flag = if secure { " -s" } else { "" };
        let line = format!(
            "SERVICES {{\n  {name} cmd=\"imapd{flag} -C {} -U 100\" listen=\"127.0.0.1:{port}\" prefork=0 maxchild=20",
            conf.display()
        );
        fs::write(&services, text.replacen("SERVICES {", &line, 1))?;
        Ok(port)
    }
}

/// An authority that signs certificates for a test.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes one in a new folder, which user cyrus can read.
    ///
    /// # Errors
    /// openssl is missing, or would not.
    pub fn new(folder: &Path) -> Result<Authority> {
        fs::create_dir_all(folder)?;
        let here = folder.display();
        fs::write(folder.join("index"), "")?;
        fs::write(
            folder.join("openssl.cnf"),
            format!(
                "[req]\ndistinguished_name=name\nx509_extensions=authority\nprompt=no\n[name]\nCN=lab authority\n\
                 [authority]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n[ca]\ndefault_ca=signer\n\
                 [signer]\ndatabase={here}/index\nnew_certs_dir={here}\ncertificate={here}/ca.pem\n\
                 private_key={here}/ca.key\ndefault_md=sha256\npolicy=policy\nrand_serial=yes\nunique_subject=no\n\
                 [policy]\ncommonName=supplied\n"
            ),
        )?;
        let me = Authority { folder: folder.to_owned() };
        me.openssl(&["req", "-x509", "-days", "30", "-keyout", "ca.key", "-out", "ca.pem"], true)?;
        Ok(me)
    }

    /// Its own certificate, for those who trust it.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Settings of a server with a new certificate for `names` (`DNS:localhost,IP:127.0.0.1`), which is valid in between
    /// two days (`20200101`).
    ///
    /// # Errors
    /// openssl would not.
    pub fn settings_for(&self, server: &str, names: &str, from: &str, to: &str) -> Result<String> {
        let file = |what: &str| format!("{server}.{what}");
        fs::write(
            self.folder.join(file("ext")),
            format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"),
        )?;
        let (key, request, certificate) = (file("key"), file("csr"), file("pem"));
        self.openssl(&["req", "-keyout", &key, "-out", &request], true)?;
        let (from, to) = (format!("{from}000000Z"), format!("{to}000000Z"));
        let extensions = file("ext");
        let sign =
            ["ca", "-batch", "-notext", "-in", &request, "-out", &certificate, "-extfile", &extensions];
        self.openssl(&[&sign[..], &["-startdate", &from, "-enddate", &to]].concat(), false)?;
        let (uid, gid) = cyrus_ids()?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755))?;
        for name in [&key, &certificate] {
            chown(self.folder.join(name), Some(uid), Some(gid))?;
        }
        let here = self.folder.display();
        Ok(format!("tls_server_cert: {here}/{certificate}\ntls_server_key: {here}/{key}\n"))
    }

    fn openssl(&self, arguments: &[&str], new_key: bool) -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments).args(["-config", "openssl.cnf"]).current_dir(&self.folder);
        if new_key {
            openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
            let subject = if arguments.contains(&"-x509") { "/CN=lab authority" } else { "/CN=lab server" };
            openssl.args(["-subj", subject]);
        }
        let ended = run(&mut openssl).context("openssl")?;
        ended.expect_code(&format!("openssl {arguments:?}"), 0).map(drop)
    }
}
