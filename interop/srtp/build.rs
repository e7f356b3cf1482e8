//! Builds the oracle with the system's C compiler, if libsrtp2 is there (Debian: libsrtp2-dev).

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/oracle.c");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("oracle");
    let compiler = cc::Build::new().get_compiler();
    let built = compiler
        .to_command()
        .args(["-O2", "-std=c11", "-o"])
        .arg(&out)
        .args(["src/oracle.c", "-lsrtp2"])
        .status()
        .is_ok_and(|status| status.success());
    if built {
        println!("cargo::rustc-env=SRTP_ORACLE={}", out.display());
    } else {
        println!("cargo::warning=libsrtp2 was not found: install libsrtp2-dev");
        println!("cargo::rustc-env=SRTP_ORACLE=");
    }
}
