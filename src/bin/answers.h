// Answers that several commands give.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bin/command.h"
#include "bin/json_out.h"
#include "image/library.h"

namespace veneer {

// These print, and return kDone.
int answer(const JsonOut& json);
// Lines "A /path" (added), "C /path" (changed) and "D /path" (deleted), or JSON.
int answer_changes(const Context& context, const std::vector<Change>& changes);

// Throws invalid_argument if standard output is a terminal: "the tar" is not for people.
void refuse_terminal(std::string_view what);

// The first 12 digits: what people are shown, and the commands take.
std::string short_id(std::string_view hex);
// "packed" or "directory".
std::string_view to_string(Form form);

// One JSON object each.
void add_image(JsonOut& json, const ImageInfo& image);
void add_container(JsonOut& json, const ContainerInfo& container);

}  // namespace veneer
