//! NVIDIA's run-time compiler, which comes with the CUDA packages of libtorch: CUDA C to code for
//! one GPU.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs,
    path::{Path, PathBuf},
    ptr,
};

use libloading::os::unix::{RTLD_GLOBAL, RTLD_LOCAL};

use super::{CudaError, function, loaded_libtorch, open};

/// Where it may be on this machine, best first. The last are for the system to find.
pub(crate) fn places() -> Vec<PathBuf> {
    let beside = loaded_libtorch().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let directories = beside.into_iter().flat_map(|libtorch| {
        // In torch's own archive, and where pip puts NVIDIA's packages.
        ["", "../../nvidia/cu13/lib", "../../nvidia/cuda_nvrtc/lib"]
            .map(|place| libtorch.join(place))
    });
    let found = directories.flat_map(|directory| libraries_in(&directory, "libnvrtc", "-builtins"));
    found.chain(["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from)).collect()
}

/// Shared libraries of a directory whose names begin so, but for those with `except` in theirs, and
/// for NVIDIA's alternative builds.
fn libraries_in(directory: &Path, prefix: &str, except: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_one = |name: &str| {
        let unwanted = name.contains(".alt.") || (!except.is_empty() && name.contains(except));
        name.starts_with(prefix) && name.contains(".so") && !unwanted
    };
    let mut paths: Vec<_> = entries
        .filter(|entry| is_one(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

type Program = *mut c_void;

/// The functions of the library that are used here; each gives 0 or the number of an error.
struct Functions {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    architectures_count: unsafe extern "C" fn(*mut c_int) -> c_int,
    architectures: unsafe extern "C" fn(*mut c_int) -> c_int,
}

impl Functions {
    fn open(path: &Path) -> Result<Self, CudaError> {
        // The compiler opens its built-in functions by name, without looking beside itself: they
        // are loaded before.
        if let Some(directory) = path.parent().filter(|directory| *directory != Path::new("")) {
            for builtins in libraries_in(directory, "libnvrtc-builtins", "") {
                open(builtins.as_os_str(), RTLD_GLOBAL)?;
            }
        }
        let library = open(path.as_os_str(), RTLD_LOCAL)?;
        // SAFETY: the types are those of `nvrtc.h`, which have not changed since CUDA 11.2, and the
        // library stays open.
        unsafe {
            Ok(Self {
                create: function(library, c"nvrtcCreateProgram")?,
                destroy: function(library, c"nvrtcDestroyProgram")?,
                compile: function(library, c"nvrtcCompileProgram")?,
                log_size: function(library, c"nvrtcGetProgramLogSize")?,
                log: function(library, c"nvrtcGetProgramLog")?,
                cubin_size: function(library, c"nvrtcGetCUBINSize")?,
                cubin: function(library, c"nvrtcGetCUBIN")?,
                ptx_size: function(library, c"nvrtcGetPTXSize")?,
                ptx: function(library, c"nvrtcGetPTX")?,
                architectures_count: function(library, c"nvrtcGetNumSupportedArchs")?,
                architectures: function(library, c"nvrtcGetSupportedArchs")?,
            })
        }
    }

    /// Compute capabilities that the compiler makes code for, as 90 for 9.0.
    fn architectures(&self) -> Result<Vec<c_int>, CudaError> {
        let mut count = 0;
        // SAFETY: notes a number.
        CudaError::check(
            unsafe { (self.architectures_count)(&mut count) },
            "nvrtcGetNumSupportedArchs",
        )?;
        let mut all = vec![0; usize::try_from(count).unwrap_or_default()];
        // SAFETY: notes as many numbers as it said.
        CudaError::check(
            unsafe { (self.architectures)(all.as_mut_ptr()) },
            "nvrtcGetSupportedArchs",
        )?;
        Ok(all)
    }

    /// What one of the pairs of functions that give a size and bytes gives.
    fn bytes(
        &self,
        program: Program,
        size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
        bytes: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ) -> Result<Vec<u8>, CudaError> {
        let mut count = 0;
        // SAFETY: `program` was created and not destroyed; the function notes a number.
        CudaError::check(unsafe { size(program, &mut count) }, "the compiler")?;
        let mut all = vec![0_u8; count];
        // SAFETY: as above; the second function writes as many bytes as the first said.
        CudaError::check(unsafe { bytes(program, all.as_mut_ptr().cast()) }, "the compiler")?;
        Ok(all)
    }

    fn compile(&self, source: &CStr, capability: c_int) -> Result<Vec<u8>, CudaError> {
        // Code for that GPU; for one younger than the compiler, an intermediate form that its
        // driver compiles.
        let known = self.architectures()?;
        let exact = known.contains(&capability);
        let nearest = known.iter().filter(|known| **known <= capability).max();
        let nearest = nearest.ok_or(CudaError::Capability(capability))?;
        let form = if exact { "sm" } else { "compute" };
        let options = [format!("--gpu-architecture={form}_{nearest}"), "--std=c++17".into()]
            .map(|option| CString::new(option).unwrap_or_default());
        let options = options.each_ref().map(|option| option.as_ptr());

        let mut program = ptr::null_mut();
        let (none, name) = (ptr::null(), c"var-dd.cu".as_ptr());
        // SAFETY: texts that end with a zero, no headers, and a place for the program.
        let outcome = unsafe { (self.create)(&mut program, source.as_ptr(), name, 0, none, none) };
        CudaError::check(outcome, "nvrtcCreateProgram")?;
        // SAFETY: the program was created, and the options are two texts that end with a zero.
        let outcome = unsafe { (self.compile)(program, 2, options.as_ptr()) };
        let code = CudaError::check(outcome, "nvrtcCompileProgram")
            .map_err(|error| {
                let log = self.bytes(program, self.log_size, self.log).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                CudaError::Compile(format!("{error}: {}", log.trim_end_matches('\0').trim()))
            })
            .and_then(|()| match exact {
                true => self.bytes(program, self.cubin_size, self.cubin),
                false => self.bytes(program, self.ptx_size, self.ptx),
            });
        // SAFETY: created, and not used again.
        unsafe { (self.destroy)(&mut program) };
        code
    }
}

/// Compiles CUDA C with the compiler at `library` for GPUs of a compute capability, 90 for 9.0.
/// Gives what the driver loads.
pub(crate) fn compile(
    library: &Path,
    source: &CStr,
    capability: i32,
) -> Result<Vec<u8>, CudaError> {
    Functions::open(library)?.compile(source, capability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_and_its_built_in_functions_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let libraries = [
            "libnvrtc.so.13",
            "libnvrtc.alt.so.13",
            "libnvrtc-builtins.so.13.0",
            "libnvrtc-builtins.alt.so.13.0",
            "libnvrtc_static.a",
            "libnvJitLink.so.13",
        ];
        for name in libraries {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let found = |prefix, except| libraries_in(directory.path(), prefix, except);
        assert_eq!(found("libnvrtc", "-builtins"), [directory.path().join(libraries[0])]);
        assert_eq!(found("libnvrtc-builtins", ""), [directory.path().join(libraries[2])]);
    }

    #[test]
    fn a_compiler_that_is_not_there_is_named() {
        let error = compile(Path::new("/nowhere/libnvrtc.so.13"), c"", 90).unwrap_err();
        assert!(error.to_string().contains("/nowhere/libnvrtc.so.13"), "{error}");
    }
}
