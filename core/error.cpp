#include "core/error.h"

namespace reverie {

void throw_user_error(fmt::string_view format, fmt::format_args args) {
  throw UserError(fmt::vformat(format, args));
}

}  // namespace reverie
