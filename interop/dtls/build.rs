//! Builds an end of Mbed TLS with the system's C compiler, if it is there (Debian: libmbedtls-dev).

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/mbedtls.c");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("mbedtls");
    let built = cc::Build::new()
        .get_compiler()
        .to_command()
        .args(["-O2", "-std=c11", "-o"])
        .arg(&out)
        .args(["src/mbedtls.c", "-lmbedtls", "-lmbedx509", "-lmbedcrypto"])
        .status()
        .is_ok_and(|status| status.success());
    if built {
        println!("cargo::rustc-env=MBEDTLS_END={}", out.display());
    } else {
        println!("cargo::warning=Mbed TLS was not found: install libmbedtls-dev");
        println!("cargo::rustc-env=MBEDTLS_END=");
    }
}
