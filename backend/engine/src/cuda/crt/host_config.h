// For host code alone nothing of NVIDIA's file of this name is needed; see host_defines.h.
#pragma once

#include "host_defines.h"
