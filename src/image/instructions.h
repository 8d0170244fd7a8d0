// Dockerfile instructions that change an image's config, as `docker commit --change` takes them.
//
// Source: Docker's Dockerfile reference; image-spec config.md for the fields.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace veneer {

// The config (a JSON document) with the instructions applied, one after the other: CMD, ENTRYPOINT,
// ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR. In all but CMD, ENTRYPOINT and
// ONBUILD, $name and ${name} (also with :-word and :+word) stand for what ENV says. An ENTRYPOINT
// takes a CMD away that no instruction before it has set. Everything else in the document stays.
// Throws invalid_argument, naming the instruction, for what is not so.
std::string apply_instructions(std::string_view config,
                               const std::vector<std::string>& instructions);

}  // namespace veneer
