#pragma once
/// Where a tensor's bytes live.

#include <cstdint>
#include <string_view>

namespace reverie {

enum class DeviceKind : uint8_t { cpu = 0, cuda = 1 };
inline constexpr int kDeviceKinds = 2;

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int16_t index = 0;
  bool operator==(const Device&) const = default;
};

constexpr std::string_view name_of(DeviceKind k) {
  return k == DeviceKind::cpu ? "cpu" : "cuda";
}

}  // namespace reverie
