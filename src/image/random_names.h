// Names for containers that nobody named.
#pragma once

#include <string>
#include <string_view>

namespace veneer {

// "adjective_noun", at random. Different ones may be the same.
std::string random_container_name();

// 64 hex digits, at random.
std::string random_container_id();

// Throws invalid_argument unless `name` is a letter or digit and then letters, digits, "_", "." and
// "-", at most limits::kIdBytes of them: what Docker takes for a container.
void check_container_name(std::string_view name);

}  // namespace veneer
