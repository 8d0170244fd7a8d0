#include <algorithm>
#include <map>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "image/config_blob.h"
#include "image/context.h"
#include "image/json.h"
#include "image/library.h"
#include "image/library_parts.h"
#include "stream/checksum.h"
#include "stream/compressing_sink.h"
#include "stream/prefetch.h"
#include "stream/verify.h"
#include "tar/writer.h"

namespace veneer {

namespace {

constexpr PathView kLayerTar = "layer.tar";
constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kConfigType = "application/vnd.oci.image.config.v1+json";
constexpr std::string_view kIndexType = "application/vnd.oci.image.index.v1+json";

// What is saved, with all files open: nobody can take them away while they are written.
struct SavedLayer {
  LayerRecord record;
  UniqueFd tar;
};
struct SavedImage {
  ImageInfo info;
  std::vector<ImageName> names;
  std::string config;
  std::vector<SavedLayer> layers;
};

// A layer as it lies in the archive.
struct Member {
  std::string name;
  Digest digest;
  uint64_t size = 0;
};

std::string blob_name(const Digest& digest) {
  return "blobs/sha256/" + digest.hex();
}

class MemberSink final : public Sink {
 public:
  explicit MemberSink(tar::Writer& writer) : writer_(writer) {}
  void write(Bytes bytes) override { writer_.write(bytes); }

 private:
  tar::Writer& writer_;
};

Compression to_compression(SaveOptions::Compression compression) {
  switch (compression) {
    case SaveOptions::Compression::none:
      return Compression::none;
    case SaveOptions::Compression::gzip:
      return Compression::gzip;
    case SaveOptions::Compression::zstd:
      return Compression::zstd;
  }
  return Compression::none;
}

std::string layer_type(Compression compression) {
  std::string type = "application/vnd.oci.image.layer.v1.tar";
  if (compression != Compression::none) type += fmt::format("+{}", to_string(compression));
  return type;
}

// Copies a layer's tar, and throws corrupt at its end if it is not what it was. That the checksum
// tells, which takes no longer than copying; where it is not known, or another, the digest does.
void copy_layer(const SavedLayer& layer, Sink& to) {
  const uint64_t size = layer.record.tar_bytes;
  with_context(fmt::format("layer {}", layer.record.diff_id.str()), [&] {
    FileRangeSource stored(layer.tar.get(), 0, size);
    Crc64Source summed(stored);
    PrefetchSource ahead(summed);
    copy_all(ahead, to);
    if (summed.value() == layer.record.checksum) return;
    FileRangeSource again(layer.tar.get(), 0, size);
    VerifyingSource verified(again, layer.record.diff_id, "the store's copy");
    drain(verified);
  });
}

class Archive {
 public:
  Archive(const Layout& layout, const SavedImage& image, const SaveOptions& options, Sink& to)
      : layout_(layout),
        image_(image),
        compression_(to_compression(options.compression)),
        writer_(to) {
    using std::chrono::floor;
    using std::chrono::seconds;
    const int64_t created =
        floor<seconds>(image.info.created.value_or(Time())).time_since_epoch().count();
    modified_.seconds = std::max<int64_t>(created, 0);
  }

  void write_oci();
  void write_docker();

 private:
  void add(const std::string& name, tar::EntryType type, uint64_t size) {
    tar::Entry entry;
    entry.type = type;
    entry.path = name;
    entry.mode = type == tar::EntryType::directory ? 0755 : 0644;
    entry.size = size;
    entry.modified = modified_;
    writer_.add(entry);
  }
  void add_directory(const std::string& name) { add(name, tar::EntryType::directory, 0); }
  void add_text(const std::string& name, std::string_view text) {
    add(name, tar::EntryType::file, text.size());
    writer_.write(std::as_bytes(std::span(text)));
  }
  template <typename Name>
  std::vector<Member> add_layers(Name name);
  template <typename Name>
  Member add_layer(const SavedLayer& layer, Name name);

  std::string oci_manifest(const std::vector<Member>& layers) const;
  std::string oci_index(const std::string& manifest) const;
  std::string docker_manifest(const std::string& config, const std::vector<Member>& layers) const;
  std::string repositories() const;

  const Layout& layout_;
  const SavedImage& image_;
  Compression compression_;
  tar::Writer writer_;
  tar::Timestamp modified_;
};

// A header says the size first, so what is compressed goes through a file without a name.
template <typename Name>
Member Archive::add_layer(const SavedLayer& layer, Name name) {
  MemberSink to(writer_);
  if (compression_ == Compression::none) {
    const Digest& diff_id = layer.record.diff_id;
    Member member{
        .name = name(diff_id, diff_id), .digest = diff_id, .size = layer.record.tar_bytes};
    add(member.name, tar::EntryType::file, member.size);
    copy_layer(layer, to);
    return member;
  }
  const UniqueFd spool = open_at(layout_.staging(), ".", O_TMPFILE | O_RDWR, 0600);
  FdSink file(spool.get());
  HashingSink counted(file);
  CompressingSink compressed(compression_, counted);
  copy_layer(layer, compressed);
  compressed.finish();
  Member member{.name = {}, .digest = counted.digest(), .size = counted.count()};
  member.name = name(layer.record.diff_id, member.digest);
  add(member.name, tar::EntryType::file, member.size);
  FileRangeSource spooled(spool.get(), 0, member.size);
  copy_all(spooled, to);
  return member;
}

// Each once, however often the image has it.
template <typename Name>
std::vector<Member> Archive::add_layers(Name name) {
  std::map<Digest, Member> added;
  std::vector<Member> members;
  for (const SavedLayer& layer : image_.layers) {
    auto known = added.find(layer.record.diff_id);
    if (known == added.end())
      known = added.emplace(layer.record.diff_id, add_layer(layer, name)).first;
    members.push_back(known->second);
  }
  return members;
}

JsonTree descriptor(std::string_view type, const Digest& digest, uint64_t size) {
  JsonTree tree;
  tree.set({"mediaType"}, type);
  tree.set({"digest"}, digest.str());
  tree.set({"size"}, size);
  return tree;
}

std::string Archive::oci_manifest(const std::vector<Member>& layers) const {
  JsonTree manifest;
  manifest.set({"schemaVersion"}, uint64_t{2});
  manifest.set({"mediaType"}, kManifestType);
  manifest.set({"config"},
               descriptor(kConfigType, image_.info.record.config, image_.config.size()));
  manifest.set({"layers"}, JsonTree::array());
  for (const Member& layer : layers)
    manifest.append({"layers"}, descriptor(layer_type(compression_), layer.digest, layer.size));
  return manifest.text();
}

// One entry a name: containerd, Docker and podman each read annotations of their own.
std::string Archive::oci_index(const std::string& manifest) const {
  JsonTree index;
  index.set({"schemaVersion"}, uint64_t{2});
  index.set({"mediaType"}, kIndexType);
  const auto entry = [&] {
    return descriptor(kManifestType, Sha256::of(manifest), manifest.size());
  };
  for (const ImageName& name : image_.names) {
    JsonTree named = entry();
    named.set({"annotations", "io.containerd.image.name"}, name.str());
    if (!name.tag().empty())
      named.set({"annotations", "org.opencontainers.image.ref.name"}, name.tag());
    index.append({"manifests"}, std::move(named));
  }
  if (image_.names.empty()) index.append({"manifests"}, entry());
  return index.text();
}

std::string Archive::docker_manifest(const std::string& config,
                                     const std::vector<Member>& layers) const {
  std::vector<std::string> tags;
  for (const ImageName& name : image_.names)
    if (!name.tag().empty() && !name.digest()) tags.push_back(name.familiar());
  std::vector<std::string> members;
  for (const Member& layer : layers) members.push_back(layer.name);
  JsonTree image;
  image.set({"Config"}, config);
  image.set({"RepoTags"}, tags);
  image.set({"Layers"}, members);
  JsonTree images = JsonTree::array();
  images.append({}, std::move(image));
  return images.text();
}

std::string Archive::repositories() const {
  JsonTree tree;
  for (const ImageName& name : image_.names) {
    if (name.tag().empty() || name.digest() || image_.layers.empty()) continue;
    const std::string familiar = name.familiar();
    const std::string repository = familiar.substr(0, familiar.rfind(':'));
    tree.set({repository, name.tag()}, image_.layers.back().record.diff_id.hex());
  }
  return tree.text();
}

void Archive::write_oci() {
  add_directory("blobs/");
  add_directory("blobs/sha256/");
  const std::string config = blob_name(image_.info.record.config);
  add_text(config, image_.config);
  const std::vector<Member> layers =
      add_layers([](const Digest&, const Digest& blob) { return blob_name(blob); });
  const std::string manifest = oci_manifest(layers);
  add_text(blob_name(Sha256::of(manifest)), manifest);
  add_text("index.json", oci_index(manifest));
  // For Docker before 25, which reads no layouts.
  add_text("manifest.json", docker_manifest(config, layers));
  add_text("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  writer_.finish();
}

void Archive::write_docker() {
  const std::string config = image_.info.record.config.hex() + ".json";
  add_text(config, image_.config);
  const std::vector<Member> layers =
      add_layers([](const Digest& diff_id, const Digest&) { return diff_id.hex() + ".tar"; });
  add_text("manifest.json", docker_manifest(config, layers));
  add_text("repositories", repositories());
  writer_.finish();
}

SavedImage open_image_to_save(Store& store, std::string_view reference) {
  Meta::Transaction transaction = store.meta().read();
  const ImageRecord record = find_image(transaction, reference);
  SavedImage image{.info = describe_image(store, transaction, record),
                   .names = {},
                   .config = read_config(store, record.config),
                   .layers = {}};
  for (const std::string& name : record.names) image.names.push_back(ImageName::parse(name));
  // Who asks by a name wants that one.
  if (const auto asked = ImageName::maybe_parse(reference);
      asked && std::ranges::find(image.names, *asked) != image.names.end())
    image.names = {*asked};
  for (const Import::Layer& known : read_chain(transaction, record.top).layers) {
    const auto layer = transaction.maybe_layer(known.diff_id);
    const UniqueFd directory =
        open_dir_at(store.layout().layers(), Layout::digest_name(known.diff_id));
    image.layers.push_back(
        {.record = layer.value(), .tar = open_at(directory.get(), kLayerTar, O_RDONLY)});
  }
  return image;
}

}  // namespace

void Library::save(std::string_view reference, const SaveOptions& options, Sink& to) {
  const SavedImage image = open_image_to_save(store_, reference);
  Archive archive(store_.layout(), image, options, to);
  if (options.format == SaveOptions::Format::oci)
    archive.write_oci();
  else
    archive.write_docker();
}

}  // namespace veneer
