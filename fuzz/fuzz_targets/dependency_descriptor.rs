//! Dependency descriptors: one after the other, each with the structure that came last.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_rtp::extension::{DependencyDescriptor, DependencyStructure};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut structure: Option<DependencyStructure> = None;
    while let [len, tail @ ..] = rest {
        let len = usize::from(*len).min(tail.len());
        let (data, tail) = tail.split_at(len);
        rest = tail;
        let Ok(descriptor) = DependencyDescriptor::parse(data, structure.as_ref()) else {
            continue;
        };
        let mut out = [0; 4000];
        let len = descriptor.write(structure.as_ref(), &mut out).unwrap();
        let again = DependencyDescriptor::parse(&out[..len], structure.as_ref()).unwrap();
        assert_eq!(again, descriptor);
        if let Some(new) = descriptor.structure {
            for target in 0..new.decode_targets {
                let _ = new.decode_target_layers(target);
            }
            structure = Some(*new);
        }
    }
});
