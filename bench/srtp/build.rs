//! Links libsrtp2 if it is there (Debian: libsrtp2-dev); without it its column is empty.

fn main() {
    println!("cargo::rerun-if-changed=src/libsrtp.c");
    println!("cargo::rustc-check-cfg=cfg(libsrtp)");
    let built = cc::Build::new()
        .file("src/libsrtp.c")
        .opt_level(2)
        .cargo_warnings(false)
        .try_compile("bench_libsrtp");
    if built.is_ok() {
        println!("cargo::rustc-link-lib=srtp2");
        println!("cargo::rustc-cfg=libsrtp");
    }
}
