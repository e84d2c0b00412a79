#include "trainers/tables/table_ranks.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "trainers/distributed/device_communicator.h"
#include "trainers/training/trainer.h"

namespace reverie {

void TableRanks::announce(const PlannedRun& run, const std::string& directory) {
  host_->all_gather(json_text(Json{{"config", run.config.json()},
                                   {"config_directory", directory},
                                   {"run_directory", run.directory},
                                   {"trial", run.trial}}));
}

void TableRanks::end(int status) {
  host_->all_gather(json_text(Json{{"status", status}}));
}

int TableRanks::follow() {
  for (;;) {
    const Json said = parse_json(host_->all_gather("")[0]);
    if (said.contains("status")) return said.at("status");
    const ExperimentOptions options =
        read_experiment(Config(said.at("config"), "$"), said.at("config_directory"));
    RunControl control;
    control.run_directory = said.at("run_directory");
    control.resume = true;
    control.may_begin_anew = true;
    control.communicator = &on(options.tensor_device());
    try {
      Trainer(options, control).run();
    } catch (const DivergedError&) {
      if (!said.at("trial")) throw;  // of a trial it is a result, which all ranks have found
    }
  }
}

Communicator& TableRanks::on(Device device) {
  if (!on_device_ || device.kind != device_) {
    on_device_ = communicator_on(device, host_);
    device_ = device.kind;
  }
  return *on_device_;
}

}  // namespace reverie
