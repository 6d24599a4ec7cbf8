//! libtorch: the one of `LIBTORCH`, an earlier set-up, or the PyTorch wheel unpacked into the
//! cache.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{python::Python, stage::stage, workspace};

/// The version that the `tch` crate binds; any of 2.11 will do, this is the one installed.
const VERSION: &str = "2.11.0";
const SERIES: (u32, u32) = (2, 11);

/// What the program links. `libtorch_cuda.so` is not among them: the program opens it where a
/// driver is, so that one executable serves both.
const LINKED: [&str; 3] = ["libc10.so", "libtorch.so", "libtorch_cpu.so"];

/// Libraries of the wheel and of NVIDIA's packages that those need.
const NEEDED: [&str; 4] = ["libgomp.so.1", "libshm.so", "libcudart.so.13", "libcupti.so.13"];

/// How much of the wheel's requirements is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Two small packages that even the CPU part links.
    Cpu,
    /// All NVIDIA packages.
    Cuda,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::Cuda => "cuda",
        }
    }

    fn directory(self, cache: &Path) -> PathBuf {
        cache.join(format!("libtorch-{VERSION}-{}", self.name()))
    }
}

/// Finds or installs libtorch; returns the directory for `LIBTORCH`.
///
/// # Errors
/// When `LIBTORCH` cannot be used, or nothing can be installed; says what to run or set.
pub(crate) fn ensure() -> Result<PathBuf> {
    stage("libtorch", &format!("looking for version {}.{}", SERIES.0, SERIES.1), || {
        if let Some(given) = env::var_os("LIBTORCH").filter(|value| !value.is_empty()) {
            let directory = fs::canonicalize(&given).unwrap_or_else(|_| given.into());
            check(&directory).map_err(|lack| {
                anyhow!(
                    "LIBTORCH is {}, which cannot be used: {lack}. Point it to libtorch {}.{}, or \
                     unset it and one is installed in the cache",
                    directory.display(),
                    SERIES.0,
                    SERIES.1
                )
            })?;
            let said = format!("{} (from LIBTORCH)", directory.display());
            return Ok((directory, said));
        }
        let kind = if has_nvidia_driver() { Kind::Cuda } else { Kind::Cpu };
        let cache = workspace::cache()?;
        let directory = kind.directory(&cache);
        if check(&directory).is_err() {
            install(kind, &cache)?;
        }
        let said = format!("{VERSION} ({}) in {}", kind.name(), directory.display());
        Ok((directory, said))
    })
}

/// Checks that a directory is a libtorch of the right version; says what it lacks.
fn check(directory: &Path) -> Result<()> {
    if !directory.is_dir() {
        bail!("there is no such directory");
    }
    for name in LINKED {
        if !directory.join("lib").join(name).exists() {
            bail!("it lacks lib/{name}");
        }
    }
    let headers =
        ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];
    let texts: Vec<_> =
        headers.iter().filter_map(|name| fs::read_to_string(directory.join(name)).ok()).collect();
    if texts.is_empty() {
        bail!("it lacks {}", headers[1]);
    }
    let number = |name| texts.iter().find_map(|text| defined(text, name));
    match (number("TORCH_VERSION_MAJOR"), number("TORCH_VERSION_MINOR")) {
        (Some(major), Some(minor)) if (major, minor) == SERIES => Ok(()),
        (Some(major), Some(minor)) => bail!("its version is {major}.{minor}"),
        _ => bail!("{} does not tell its version", headers[0]),
    }
}

/// The value of `#define name value` in a C header.
fn defined(header: &str, name: &str) -> Option<u32> {
    header.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("#define") && words.next() == Some(name))
            .then(|| words.next()?.parse().ok())?
    })
}

/// Whether programs can use an NVIDIA device here.
fn has_nvidia_driver() -> bool {
    let usual = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/wsl/lib",
    ];
    let own = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut directories = usual.iter().map(PathBuf::from).chain(env::split_paths(&own));
    Path::new("/proc/driver/nvidia/version").exists()
        || directories.any(|directory| directory.join("libcuda.so.1").exists())
}

/// Unpacks the wheel into the cache. The directory gets its name only when it is whole, so that an
/// interrupted set-up leaves nothing that looks finished.
fn install(kind: Kind, cache: &Path) -> Result<()> {
    let directory = kind.directory(cache);
    let _lock = workspace::lock(cache, "libtorch")?;
    if check(&directory).is_ok() {
        return Ok(()); // Another process made it while this one waited.
    }
    if !cfg!(target_os = "linux") {
        bail!(
            "libtorch is installed by itself on Linux only; download version {VERSION} and set \
             LIBTORCH to it"
        );
    }
    let download = match kind {
        Kind::Cpu => "about 600 MB",
        Kind::Cuda => "about 3 GB, since an NVIDIA driver is present",
    };
    eprintln!("{:>10}  installing {VERSION} ({download}) into {}", "", directory.display());
    let partial = cache.join(format!("libtorch-{VERSION}-{}.partial", kind.name()));
    remove(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let advice = || {
        "libtorch could not be installed. With the Python package index in reach (or a mirror in \
         PIP_INDEX_URL) run `cargo xtask setup` again; or set LIBTORCH to a libtorch 2.11 that \
         you have"
    };
    unpack(kind, &partial).with_context(advice)?;
    remove(&directory)?;
    fs::rename(&partial, &directory)
        .with_context(|| format!("cannot create {}", directory.display()))
}

/// Makes the layout of a libtorch in `directory`: `wheel/` as unpacked, `include` and `lib/` as
/// links into it.
fn unpack(kind: Kind, directory: &Path) -> Result<()> {
    let python = Python::find(directory)?;
    let wheel = directory.join("wheel");
    python.unpack(&wheel, &[format!("torch=={VERSION}")], false)?;
    let extra = directory.join("extra");
    match kind {
        Kind::Cpu => {
            let packages = ["nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*"];
            python.unpack(&extra, &packages.map(str::to_owned), false)?;
        }
        Kind::Cuda => {
            let path = wheel.join(format!("torch-{VERSION}.dist-info/METADATA"));
            let metadata = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            python.unpack(&extra, &nvidia_requirements(&metadata), true)?;
        }
    }
    // The wheel's libraries look for these beside themselves.
    fs::rename(extra.join("nvidia"), wheel.join("nvidia"))
        .context("the NVIDIA packages hold no directory `nvidia`")?;
    remove(&extra)?;
    remove(&directory.join("python"))?;
    link(directory)?;
    check(directory)
}

/// Links `include` and the libraries; relative, since the directory is renamed when it is whole.
fn link(directory: &Path) -> Result<()> {
    symlink("wheel/torch/include", directory.join("include"))?;
    fs::create_dir(directory.join("lib"))?;
    let places = ["wheel/torch/lib", "wheel/nvidia/cu13/lib"];
    for name in LINKED.iter().chain(&NEEDED) {
        let Some(place) = places.iter().find(|place| directory.join(place).join(name).exists())
        else {
            bail!("the wheel lacks {name}; this version of it is laid out in another way");
        };
        symlink(Path::new("..").join(place).join(name), directory.join("lib").join(name))?;
    }
    Ok(())
}

/// NVIDIA's packages among the requirements of the torch wheel, as pip reads them.
fn nvidia_requirements(metadata: &str) -> Vec<String> {
    let requirements = metadata.lines().filter_map(|line| line.strip_prefix("Requires-Dist: "));
    requirements
        .filter(|requirement| {
            requirement.starts_with("nvidia-") || requirement.starts_with("cuda-toolkit")
        })
        .map(|requirement| requirement.split(';').next().unwrap_or(requirement).trim().to_owned())
        .collect()
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch(version: (u32, u32)) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let include = directory.path().join("include/torch/headeronly");
        fs::create_dir_all(&include).unwrap();
        let (major, minor) = version;
        let header =
            format!("#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n");
        fs::write(include.join("version.h"), header).unwrap();
        fs::create_dir(directory.path().join("lib")).unwrap();
        for name in LINKED {
            fs::write(directory.path().join("lib").join(name), "").unwrap();
        }
        directory
    }

    #[test]
    fn a_libtorch_of_the_right_version_is_accepted() {
        check(libtorch(SERIES).path()).unwrap();
    }

    #[test]
    fn a_libtorch_of_another_version_is_refused_with_its_version() {
        let error = check(libtorch((2, 9)).path()).unwrap_err().to_string();
        assert!(error.contains("2.9"), "{error}");
    }

    #[test]
    fn a_libtorch_without_a_library_is_refused_with_the_name_of_what_it_lacks() {
        let directory = libtorch(SERIES);
        fs::remove_file(directory.path().join("lib/libtorch_cpu.so")).unwrap();
        let error = check(directory.path()).unwrap_err().to_string();
        assert!(error.contains("libtorch_cpu.so"), "{error}");
    }

    #[test]
    fn the_full_set_is_what_the_wheel_asks_of_nvidia() {
        let metadata = "Requires-Dist: filelock\n\
            Requires-Dist: cuda-toolkit[cublas,cudart]==13.0.2; platform_system == \"Linux\"\n\
            Requires-Dist: cuda-bindings<14,>=13.0.3; platform_system == \"Linux\"\n\
            Requires-Dist: nvidia-cudnn-cu13==9.19.0.56; platform_system == \"Linux\"\n\
            Requires-Dist: triton==3.6.0; platform_system == \"Linux\"\n";
        assert_eq!(
            nvidia_requirements(metadata),
            ["cuda-toolkit[cublas,cudart]==13.0.2", "nvidia-cudnn-cu13==9.19.0.56"]
        );
    }
}
