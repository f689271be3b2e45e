//! As much of `protoc` as a build script of prost asks for: -I FOLDER... -o FILE PROTO...

use std::env;
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut folders, mut protos, mut out) = (Vec::new(), Vec::new(), None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-I" => folders.extend(arguments.next()),
            "-o" => out = arguments.next(),
            flag if flag.starts_with('-') => {}
            _ => protos.push(argument),
        }
    }
    let mut compiler = protox::Compiler::new(folders)?;
    compiler.include_imports(true).include_source_info(true).open_files(protos)?;
    fs::write(out.ok_or("no -o")?, compiler.encode_file_descriptor_set())?;
    Ok(())
}
