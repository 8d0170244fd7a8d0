#include <algorithm>

#include "base/error.h"
#include "image/context.h"
#include "image/located.h"
#include "image/select.h"

namespace veneer {

namespace {

constexpr const char* kManifest = "manifest.json";

// A path of manifest.json as the name of a member.
std::string member_name(const std::string& path) {
  const auto name = maybe_member_name(path);
  if (!name) fail(Code::corrupt, "{}: {} leads out of the archive", kManifest, shown(path));
  return *name;
}

// The digest in names like <hex>.json, sha256:<hex> and blobs/sha256/<hex>. Other names are fine.
std::optional<Digest> digest_in_name(std::string_view name) {
  if (const size_t slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  if (name.starts_with("sha256:")) name.remove_prefix(7);
  if (name.ends_with(".json")) name.remove_suffix(5);
  if (name.size() != 2 * Digest::kBytes || name.find_first_not_of("0123456789abcdef") != name.npos)
    return {};
  return Digest::parse("sha256:" + std::string(name));
}

// Entries with one config are one image: the config fixes its layers.
std::vector<DockerImage> merge_by_config(std::vector<DockerImage> images) {
  std::vector<DockerImage> merged;
  for (DockerImage& image : images) {
    const auto same = std::ranges::find(merged, image.config, &DockerImage::config);
    if (same == merged.end())
      merged.push_back(std::move(image));
    else
      same->names.insert(same->names.end(), image.names.begin(), image.names.end());
  }
  return merged;
}

DockerImage choose_image(const Members& members, const OpenImageOptions& options) {
  const std::string text = members.read(kManifest);
  const auto images =
      merge_by_config(with_context(kManifest, [&] { return parse_docker_images(text); }));
  std::vector<ImageChoice> choices;
  for (const DockerImage& image : images)
    choices.push_back({.id = image.config, .names = image.names});
  const std::vector<size_t> selected = select_images(choices, options.name);
  if (selected.size() > 1) fail_ambiguous(choices, selected);
  return images[selected.front()];
}

}  // namespace

LocatedImage find_docker_image(const Members& members, const OpenImageOptions& options) {
  const DockerImage chosen = choose_image(members, options);
  const std::string config_name = member_name(chosen.config);
  LocatedImage image;
  image.layer_links = Links::follow;
  image.manifest.names = chosen.names;
  image.manifest.config = members.read(config_name);
  image.manifest.config_digest = Sha256::of(image.manifest.config);
  if (const auto said = digest_in_name(config_name); said && *said != image.manifest.config_digest)
    fail(Code::corrupt, "{} has the digest {}", shown(config_name),
         image.manifest.config_digest.str());
  const ImageConfig config = with_context(shown(config_name), [&] {
    ImageConfig parsed = parse_config(image.manifest.config);
    check_diff_ids(parsed, chosen.layers.size());
    return parsed;
  });
  if (options.platform) check_platform(config, Platform::parse(*options.platform));
  for (size_t i = 0; i < chosen.layers.size(); ++i) {
    const std::string name = member_name(chosen.layers[i]);
    image.manifest.layers.push_back({.diff_id = config.diff_ids[i],
                                     .blob_digest = {},
                                     .blob_size = members.open(name, Links::follow)->size_bytes(),
                                     .media_type = {}});
    image.layer_members.push_back(name);
  }
  return image;
}

}  // namespace veneer
