#pragma once
/// Several data sets as one, from which rows are drawn by weight.

#include <string>
#include <vector>

#include "datasets/dataset.h"

namespace reverie {

/// The layout of one text in so many files.
MixLayout layout_of_shards(const std::string& name, const std::vector<TokenFile>& files);

/// Opens every entry of a mix. The hash is over those of the entries and their shares, in order.
/// UserError, naming the entry, where one is not prepared, is no plain text (examples, a generated
/// task), has another tokenizer than the first, or a share below a millionth.
Dataset open_mix(const DatasetDescription& description);

/// UserError naming the option that is given beside data.mix and belongs into its entries.
void require_alone(const DataOptions& options);

}  // namespace reverie
