//! The flags that say where networks run and in which numbers: the same ones for every command.

use clap::{Args, value_parser};
use tch::{Device, Kind};
use var_dd_engine::{
    bundle::config::Config,
    device::{DeviceChoice, DeviceError, DtypeChoice},
};

/// Where networks run.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Where the networks run: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
    #[arg(long, value_name = "DEVICE", env = "VAR_DD_DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// Threads of the networks on a CPU [default: one a core]. Fewer are faster where others use
    /// the cores too. Pictures are the same whatever the number; training gives the same bits for
    /// the same number.
    #[arg(long, value_name = "COUNT", env = "VAR_DD_THREADS",
          value_parser = value_parser!(i32).range(1..=1024))]
    pub threads: Option<i32>,
}

/// Where networks run, and in which numbers.
#[derive(Args, Clone, Debug)]
pub struct NetworkArgs {
    /// Where the networks run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Numbers of the networks: `f32`, `bf16`, `f16`, or `auto`: bf16 on a GPU and, for large
    /// models, on a CPU that multiplies it natively; else f32. Training and its scores take f32 on
    /// a CPU unless told otherwise [default: auto; f32 for `trace`].
    #[arg(long, value_name = "DTYPE", env = "VAR_DD_DTYPE")]
    pub dtype: Option<DtypeChoice>,
}

impl DeviceArgs {
    /// The device, ready to use.
    ///
    /// # Errors
    /// [`DeviceError::NoCuda`] and [`DeviceError::OutOfRange`] when a GPU is asked for that cannot
    /// be used.
    pub fn open(&self) -> Result<Device, DeviceError> {
        let device = self.device.open()?;
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
        Ok(device)
    }
}

impl NetworkArgs {
    /// The device, ready to use.
    ///
    /// # Errors
    /// As [`DeviceArgs::open`].
    pub fn open(&self) -> Result<Device, DeviceError> {
        self.device.open()
    }

    /// The numbers as typed, or by default.
    pub fn dtype(&self) -> DtypeChoice {
        self.dtype.unwrap_or_default()
    }

    /// The numbers that a model of these sizes is drawn in on a device.
    pub fn kind_for(&self, device: Device, config: &Config) -> Kind {
        self.dtype().kind_for(device, config)
    }
}
