// The pair styles that `plugin load` adds to LAMMPS. This file is compiled for any processor of its kind, the
// others for the one that the build names: here it is found out whether this is one.
#include "error.h"
#include "lammps.h"

#include "lammpsplugin.h"

using namespace LAMMPS_NS;

void *create_deepmd_native(void *);
void *create_hdnnp_native(void *);

static bool processor_fits()
{
#if defined(__x86_64__)
  __builtin_cpu_init();
#if SILICA_LEVEL > 4
  return false;
#endif
#if SILICA_LEVEL >= 4
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq")) return false;
#endif
#if SILICA_LEVEL >= 3
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
#endif
#endif
  return true;
}

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  LAMMPS *lammps = static_cast<LAMMPS *>(lmp);
  if (!processor_fits())
    lammps->error->all(FLERR, "native plugin: found one compiled for x86-64-v{}, which this processor is not; "
                              "delete it, and it is compiled again", SILICA_LEVEL);
  lammpsplugin_t plugin;
  plugin.version = lammps->version;  // compiled with the headers of the LAMMPS that runs
  plugin.style = "pair";
  plugin.author = "silica-nnp-suite";
  plugin.handle = handle;
  const auto add = reinterpret_cast<lammpsplugin_regfunc>(regfunc);

  plugin.name = "deepmd/native";
  plugin.info = "deep potentials, tabulated";
  plugin.creator.v1 = &create_deepmd_native;
  add(&plugin, lmp);

  plugin.name = "hdnnp/native";
  plugin.info = "symmetry-function networks of n2p2";
  plugin.creator.v1 = &create_hdnnp_native;
  add(&plugin, lmp);
}
