//! NVIDIA's driver, as far as kernels that were compiled at run time are loaded and launched with
//! it.

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void},
    ptr,
};

use libloading::os::unix::RTLD_LOCAL;
use tch::Device;

use super::{CudaError, function, open};

/// Of the driver's attributes of a device: the two parts of its compute capability.
const CAPABILITY: [c_int; 2] = [75, 76];

/// A pointer whose meaning is the driver's own.
type Opaque = *mut c_void;

/// The driver's functions; each gives 0 or the number of an error.
#[derive(Clone, Copy, Debug)]
struct Functions {
    device_get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    device_get_attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
    context_retain: unsafe extern "C" fn(*mut Opaque, c_int) -> c_int,
    context_push: unsafe extern "C" fn(Opaque) -> c_int,
    context_pop: unsafe extern "C" fn(*mut Opaque) -> c_int,
    module_load: unsafe extern "C" fn(*mut Opaque, *const c_void) -> c_int,
    module_get_function: unsafe extern "C" fn(*mut Opaque, Opaque, *const c_char) -> c_int,
    launch: unsafe extern "C" fn(
        Opaque,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        Opaque,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> c_int,
}

/// One GPU, in the context that libtorch uses too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpu {
    functions: Functions,
    context: Opaque,
    /// Where tensors lie that its kernels may be given.
    pub(crate) device: Device,
    /// Compute capability, 90 for 9.0.
    pub(crate) capability: i32,
}

// SAFETY: the driver may be called from any thread, and the context lasts as long as the process.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

/// A kernel of a module that is loaded, and stays so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel(Opaque);

// SAFETY: as for a GPU.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

/// Blocks of a grid, threads of a block, and the shared memory of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) grid: (u32, u32),
    pub(crate) threads: u32,
    pub(crate) shared_bytes: u32,
}

impl Gpu {
    /// The GPU of this number.
    pub(crate) fn open(number: usize) -> Result<Self, CudaError> {
        Self::of_driver(OsStr::new("libcuda.so.1"), number, Device::Cuda(number))
    }

    /// A GPU of the driver at `path`, whose tensors lie on `device`.
    pub(crate) fn of_driver(
        path: &OsStr,
        number: usize,
        device: Device,
    ) -> Result<Self, CudaError> {
        let library = open(path, RTLD_LOCAL)?;
        // SAFETY: the types are those of `cuda.h`, fixed by the driver's promise to old programs;
        // it stays open.
        let (initialise, functions) = unsafe {
            let initialise: unsafe extern "C" fn(c_uint) -> c_int = function(library, c"cuInit")?;
            let functions = Functions {
                device_get: function(library, c"cuDeviceGet")?,
                device_get_attribute: function(library, c"cuDeviceGetAttribute")?,
                context_retain: function(library, c"cuDevicePrimaryCtxRetain")?,
                context_push: function(library, c"cuCtxPushCurrent_v2")?,
                context_pop: function(library, c"cuCtxPopCurrent_v2")?,
                module_load: function(library, c"cuModuleLoadData")?,
                module_get_function: function(library, c"cuModuleGetFunction")?,
                launch: function(library, c"cuLaunchKernel")?,
            };
            (initialise, functions)
        };
        let (mut handle, mut context, mut capability) = (0, ptr::null_mut(), [0; 2]);
        // SAFETY: each call notes its outcome in a place of the type that it expects. The primary
        // context is kept for the rest of the process.
        unsafe {
            CudaError::check(initialise(0), "cuInit")?;
            CudaError::check((functions.device_get)(&mut handle, number as c_int), "cuDeviceGet")?;
            for (part, attribute) in capability.iter_mut().zip(CAPABILITY) {
                let outcome = (functions.device_get_attribute)(part, attribute, handle);
                CudaError::check(outcome, "cuDeviceGetAttribute")?;
            }
            CudaError::check(
                (functions.context_retain)(&mut context, handle),
                "cuDevicePrimaryCtxRetain",
            )?;
        }
        Ok(Self { functions, context, device, capability: 10 * capability[0] + capability[1] })
    }

    /// Does something with the GPU's context as the thread's current one.
    fn within<T>(&self, work: impl FnOnce() -> Result<T, CudaError>) -> Result<T, CudaError> {
        // SAFETY: the context was retained.
        CudaError::check(
            unsafe { (self.functions.context_push)(self.context) },
            "cuCtxPushCurrent",
        )?;
        let outcome = work();
        let mut popped = ptr::null_mut();
        // SAFETY: takes off what was pushed above, and notes it.
        CudaError::check(unsafe { (self.functions.context_pop)(&mut popped) }, "cuCtxPopCurrent")?;
        outcome
    }

    /// Loads code that the compiler gave and finds its kernels by name.
    ///
    /// # Safety
    /// `image` is what [`super::nvrtc::compile`] gave, or what the driver takes in its place.
    pub(crate) unsafe fn load<const N: usize>(
        &self,
        image: &[u8],
        names: [&CStr; N],
    ) -> Result<[Kernel; N], CudaError> {
        self.within(|| {
            let (mut module, mut kernels) = (ptr::null_mut(), [Kernel(ptr::null_mut()); N]);
            // SAFETY: promised by the caller. The module is never unloaded.
            let outcome =
                unsafe { (self.functions.module_load)(&mut module, image.as_ptr().cast()) };
            CudaError::check(outcome, "cuModuleLoadData")?;
            for (kernel, name) in kernels.iter_mut().zip(names) {
                // SAFETY: the module is loaded, and the name ends with a zero.
                let outcome = unsafe {
                    (self.functions.module_get_function)(&mut kernel.0, module, name.as_ptr())
                };
                CudaError::check(outcome, "cuModuleGetFunction")?;
            }
            Ok(kernels)
        })
    }

    /// Queues a kernel on a stream.
    ///
    /// # Safety
    /// `arguments` point to values of the types and in the order of the kernel's parameters; what
    /// these in turn point to on the device is as large as the kernel takes it to be, and lasts
    /// until the stream has come past the launch.
    pub(crate) unsafe fn launch<const N: usize>(
        &self,
        kernel: Kernel,
        size: Size,
        stream: Stream,
        mut arguments: [*mut c_void; N],
    ) -> Result<(), CudaError> {
        let Size { grid: (x, y), threads, shared_bytes } = size;
        let (arguments, none) = (arguments.as_mut_ptr(), ptr::null_mut());
        self.within(|| {
            // SAFETY: promised by the caller.
            let outcome = unsafe {
                (self.functions.launch)(
                    kernel.0,
                    x,
                    y,
                    1,
                    threads,
                    1,
                    1,
                    shared_bytes,
                    stream.0,
                    arguments,
                    none,
                )
            };
            CudaError::check(outcome, "cuLaunchKernel")
        })
    }
}

/// A queue of work on a GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream(pub(crate) *mut c_void);
