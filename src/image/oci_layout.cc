#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/limits.h"
#include "image/context.h"
#include "image/located.h"
#include "image/select.h"

namespace veneer {

namespace {

std::string blob_member(const Digest& digest) {
  return "blobs/sha256/" + digest.hex();
}

void check_size(const std::string& name, uint64_t size, const Descriptor& descriptor) {
  if (size != descriptor.size)
    fail(Code::corrupt, "{} has {} bytes, but {} were announced", name, size, descriptor.size);
}

std::string read_blob(const Members& members, const Descriptor& descriptor) {
  const std::string name = blob_member(descriptor.digest);
  std::string text = members.read(name);
  check_size(name, text.size(), descriptor);
  if (const Digest digest = Sha256::of(text); digest != descriptor.digest)
    fail(Code::corrupt, "{} has the digest {}", name, digest.str());
  return text;
}

// The manifests that a descriptor leads to, through indexes.
class Manifests {
 public:
  explicit Manifests(const Members& members) : members_(members) {}

  void add(const Descriptor& descriptor, size_t depth = 0) {
    // What is met again holds nothing new; so the work is bounded by the archive's size.
    if (!seen_.insert(descriptor.digest).second) return;
    if (!is_index_type(descriptor.media_type)) {
      found_.push_back(descriptor);
      return;
    }
    if (depth == limits::kIndexDepth)
      fail(Code::resource_exhausted, "indexes nested deeper than {}", limits::kIndexDepth);
    const std::string text = read_blob(members_, descriptor);
    const auto children = with_context(blob_member(descriptor.digest),
                                       [&] { return parse_index(text, descriptor.media_type); });
    for (const Descriptor& child : children) add(child, depth + 1);
  }
  const std::vector<Descriptor>& found() const { return found_; }

 private:
  const Members& members_;
  std::set<Digest> seen_;
  std::vector<Descriptor> found_;
};

// One image under its names. Several descriptors with one digest are one image with several names.
struct Candidate {
  ImageChoice choice;
  Descriptor descriptor;
};

std::vector<Candidate> candidates_of(const std::vector<Descriptor>& descriptors) {
  std::vector<Candidate> candidates;
  for (const Descriptor& descriptor : descriptors) {
    auto same = std::ranges::find(candidates, descriptor.digest, [](const Candidate& candidate) {
      return candidate.descriptor.digest;
    });
    if (same == candidates.end()) {
      candidates.push_back({{.id = descriptor.digest.str(), .names = {}}, descriptor});
      same = candidates.end() - 1;
    }
    for (const std::string& name : descriptor.names)
      if (std::ranges::find(same->choice.names, name) == same->choice.names.end())
        same->choice.names.push_back(name);
  }
  return candidates;
}

// An index.json may itself be the list of one image's platforms: manifests that all have a
// platform, and the same names.
bool is_one_image(const std::vector<Candidate>& candidates, const std::vector<size_t>& selected) {
  return std::ranges::all_of(selected, [&](size_t i) {
    return candidates[i].descriptor.platform &&
           candidates[i].choice.names == candidates[selected.front()].choice.names;
  });
}

const Descriptor& choose_platform(const std::vector<Descriptor>& manifests,
                                  const Platform& wanted) {
  const Descriptor* best = nullptr;
  unsigned best_suitability = 0;
  std::vector<std::string> platforms;
  for (const Descriptor& manifest : manifests) {
    const unsigned suits = suitability(manifest.platform, wanted);
    if (suits > best_suitability) {
      best = &manifest;
      best_suitability = suits;
    }
    if (manifest.platform) platforms.push_back(manifest.platform->str());
  }
  if (best == nullptr)
    fail(Code::not_found, "no image for {}; there is {}", shown(wanted.str()), shown(platforms));
  return *best;
}

struct Chosen {
  Descriptor manifest;
  std::vector<std::string> names;
};

Chosen choose_manifest(const Members& members, const OpenImageOptions& options) {
  const std::string index = members.read("index.json");
  const auto candidates =
      candidates_of(with_context("index.json", [&] { return parse_index(index, kOciIndexType); }));
  std::vector<ImageChoice> choices;
  for (const Candidate& candidate : candidates) choices.push_back(candidate.choice);
  const std::vector<size_t> selected = select_images(choices, options.name);
  if (selected.size() > 1 && !is_one_image(candidates, selected)) fail_ambiguous(choices, selected);
  const Candidate& first = candidates[selected.front()];
  const bool alone = selected.size() == 1 && !is_index_type(first.descriptor.media_type);
  // A sole manifest is what was meant, for whatever platform it is, unless one was asked for.
  if (alone && !options.platform) return {first.descriptor, first.choice.names};
  Manifests manifests(members);
  for (const size_t i : selected) manifests.add(candidates[i].descriptor);
  if (manifests.found().empty()) fail(Code::not_found, "holds no image");
  const Platform wanted = options.platform ? Platform::parse(*options.platform) : Platform::host();
  return {choose_platform(manifests.found(), wanted), first.choice.names};
}

}  // namespace

LocatedImage find_oci_image(const Members& members, const OpenImageOptions& options) {
  const std::string layout = members.read("oci-layout");
  with_context("oci-layout", [&] { check_oci_layout(layout); });
  const Chosen chosen = choose_manifest(members, options);

  const std::string manifest_text = read_blob(members, chosen.manifest);
  const OciManifest manifest = with_context(blob_member(chosen.manifest.digest), [&] {
    return parse_manifest(manifest_text, chosen.manifest.media_type);
  });
  LocatedImage image;
  image.manifest = {.names = chosen.names,
                    .config_digest = manifest.config.digest,
                    .config = read_blob(members, manifest.config),
                    .layers = {}};
  const ImageConfig config = with_context(blob_member(manifest.config.digest), [&] {
    ImageConfig parsed = parse_config(image.manifest.config);
    check_diff_ids(parsed, manifest.layers.size());
    return parsed;
  });
  if (!chosen.manifest.platform && options.platform)
    check_platform(config, Platform::parse(*options.platform));
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const Descriptor& layer = manifest.layers[i];
    const std::string name = blob_member(layer.digest);
    check_size(name, members.open(name)->size_bytes(), layer);
    image.manifest.layers.push_back({.diff_id = config.diff_ids[i],
                                     .blob_digest = layer.digest,
                                     .blob_size = layer.size,
                                     .media_type = layer.media_type});
    image.layer_members.push_back(name);
  }
  return image;
}

}  // namespace veneer
