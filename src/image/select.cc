#include "image/select.h"

#include <algorithm>

#include "base/error.h"
#include "image/names.h"

namespace veneer {

namespace {

constexpr size_t kShownTexts = 10;

bool is_called(const ImageChoice& image, const std::string& name,
               const std::optional<ImageName>& parsed) {
  if (image.id == name || std::ranges::find(image.names, name) != image.names.end()) return true;
  return parsed && std::ranges::any_of(image.names, [&](const std::string& other) {
           return ImageName::maybe_parse(other) == parsed;
         });
}

std::vector<std::string> labels(const std::vector<ImageChoice>& images) {
  std::vector<std::string> all;
  for (const ImageChoice& image : images) {
    if (image.names.empty()) all.push_back(image.id);
    all.insert(all.end(), image.names.begin(), image.names.end());
  }
  return all;
}

}  // namespace

std::vector<size_t> select_images(const std::vector<ImageChoice>& images,
                                  const std::optional<std::string>& name) {
  if (images.empty()) fail(Code::not_found, "holds no image");
  std::vector<size_t> selected;
  const auto parsed = name ? ImageName::maybe_parse(*name) : std::nullopt;
  for (size_t i = 0; i < images.size(); ++i)
    if (!name || is_called(images[i], *name, parsed)) selected.push_back(i);
  if (selected.empty())
    fail(Code::not_found, "holds no image {}; it has {}", shown(*name), shown(labels(images)));
  return selected;
}

void fail_ambiguous(const std::vector<ImageChoice>& images, const std::vector<size_t>& selected) {
  std::vector<ImageChoice> chosen;
  for (const size_t i : selected) chosen.push_back(images[i]);
  fail(Code::invalid_argument, "holds {} images: {}; choose one with --name", chosen.size(),
       shown(labels(chosen)));
}

std::string shown(std::string_view text) {
  const bool plain = !text.empty() && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c <= '~' && c != '"';
  });
  const std::string_view some = text.substr(0, 512);
  return plain ? std::string(some) : fmt::format("{:?}", some);
}

std::string shown(const std::vector<std::string>& texts) {
  std::string all;
  for (size_t i = 0; i < texts.size() && i < kShownTexts; ++i)
    all += (i > 0 ? ", " : "") + shown(texts[i]);
  if (texts.size() > kShownTexts) all += fmt::format(" and {} more", texts.size() - kShownTexts);
  return all;
}

}  // namespace veneer
