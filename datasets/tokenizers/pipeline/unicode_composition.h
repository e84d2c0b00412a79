#pragma once
#include <string>

namespace reverie {

/// Turns UTF-8 text into Unicode's normalization form C (Unicode Standard Annex 15), of Unicode 16.
void compose_canonically(std::string& text);

}  // namespace reverie
