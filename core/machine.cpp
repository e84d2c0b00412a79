#include "core/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "build_commit.h"

namespace reverie {

MachineInfo machine_info() {
  MachineInfo info;
  utsname names{};
  if (::uname(&names) == 0) {
    info.cpu = names.machine;
    info.system = std::string(names.sysname) + " " + names.release + " " + names.machine;
  }
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (!line.starts_with("model name") || colon == line.npos) continue;
    info.cpu = line.substr(colon + 2);
    break;
  }
  info.cores = std::max(1, int(std::thread::hardware_concurrency()));
  const long pages = ::sysconf(_SC_PHYS_PAGES), page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) info.memory_bytes = int64_t(pages) * page_bytes;
  return info;
}

Json machine_json(const MachineInfo& info) {
  return {{"cpu", info.cpu},
          {"cores", info.cores},
          {"memory_bytes", info.memory_bytes},
          {"system", info.system}};
}

std::string build_commit() {
  return REVERIE_COMMIT;
}
std::string hardware_record() {
  return REVERIE_HARDWARE;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace reverie
