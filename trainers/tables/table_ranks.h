#pragma once
/// The ranks that train the runs of a table together.

#include <memory>
#include <string>

#include "trainers/distributed/communicator.h"
#include "trainers/tables/table_kind.h"

namespace reverie {

/// The first rank plans, measures and writes the table. The others train what it names, from files
/// that all of them see, and wait meanwhile.
class TableRanks {
 public:
  explicit TableRanks(std::shared_ptr<Communicator> host) : host_(std::move(host)) {}
  bool first() const { return host_->first(); }

  /// On the first rank: the others train this run with it, whose plug-ins lie beside `directory`.
  void announce(const PlannedRun&, const std::string& directory);
  /// On the first rank: the table is done, and all end with this status.
  void end(int status);
  /// On all others, until the first ends: the status.
  int follow();
  /// The ranks on the device of a run that was announced. A collective.
  Communicator& on(Device);

 private:
  std::shared_ptr<Communicator> host_, on_device_;
  DeviceKind device_ = DeviceKind::cpu;
};

}  // namespace reverie
