// containerd's own suite of tests for snapshotters, run on veneerd: through its client of a proxy
// plugin alone, with a server for each test, and with its metadata store in between, in a namespace
// for each test and all on one server, which is how containerd itself uses it.
//
// VENEERD is the program. It must see the mounts of this process, and the other way round.
package conformance

import (
    "context"
    "fmt"
    "net"
    "os"
    "os/exec"
    "path/filepath"
    "strings"
    "sync/atomic"
    "syscall"
    "testing"
    "time"

    api "github.com/containerd/containerd/api/services/snapshots/v1"
    "github.com/containerd/containerd/metadata"
    "github.com/containerd/containerd/mount"
    "github.com/containerd/containerd/namespaces"
    "github.com/containerd/containerd/snapshots"
    "github.com/containerd/containerd/snapshots/proxy"
    "github.com/containerd/containerd/snapshots/testsuite"
    bolt "go.etcd.io/bbolt"
    "google.golang.org/grpc"
)

// serve starts a server with its store in root, and returns its snapshotter and what ends it.
func serve(root string) (snapshots.Snapshotter, func() error, error) {
    socket := filepath.Join(root, "v.sock")
    server := exec.Command(os.Getenv("VENEERD"), "--root", filepath.Join(root, "store"),
        "--run", filepath.Join(root, "run"), "--snapshotter", "unix://"+socket)
    server.Stderr = os.Stderr
    if err := server.Start(); err != nil {
        return nil, nil, err
    }
    dial := func(ctx context.Context, address string) (net.Conn, error) {
        var dialer net.Dialer
        return dialer.DialContext(ctx, "unix", socket)
    }
    ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
    defer cancel()
    connection, err := grpc.DialContext(ctx, "veneer", grpc.WithInsecure(), grpc.WithBlock(),
        grpc.WithContextDialer(dial))
    if err != nil {
        server.Process.Kill()
        server.Wait()
        return nil, nil, fmt.Errorf("no answer from veneerd: %w", err)
    }
    end := func() error {
        connection.Close()
        if err := server.Process.Signal(syscall.SIGTERM); err != nil {
            return err
        }
        return server.Wait()
    }
    return proxy.NewSnapshotter(api.NewSnapshotsClient(connection), "veneer"), end, nil
}

func TestServerEach(t *testing.T) {
    testsuite.SnapshotterSuite(t, "veneer",
        func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
            return serve(root)
        })
}

// A snapshotter in a namespace, whatever the caller's.
type namespaced struct {
    snapshots.Snapshotter
    name string
}

func (s namespaced) in(ctx context.Context) context.Context {
    return namespaces.WithNamespace(ctx, s.name)
}

func (s namespaced) Stat(ctx context.Context, key string) (snapshots.Info, error) {
    return s.Snapshotter.Stat(s.in(ctx), key)
}

func (s namespaced) Update(ctx context.Context, info snapshots.Info, fields ...string) (
    snapshots.Info, error) {
    return s.Snapshotter.Update(s.in(ctx), info, fields...)
}

func (s namespaced) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
    return s.Snapshotter.Usage(s.in(ctx), key)
}

func (s namespaced) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
    return s.Snapshotter.Mounts(s.in(ctx), key)
}

func (s namespaced) Prepare(ctx context.Context, key, parent string, options ...snapshots.Opt) (
    []mount.Mount, error) {
    return s.Snapshotter.Prepare(s.in(ctx), key, parent, options...)
}

func (s namespaced) View(ctx context.Context, key, parent string, options ...snapshots.Opt) (
    []mount.Mount, error) {
    return s.Snapshotter.View(s.in(ctx), key, parent, options...)
}

func (s namespaced) Commit(ctx context.Context, name, key string, options ...snapshots.Opt) error {
    return s.Snapshotter.Commit(s.in(ctx), name, key, options...)
}

func (s namespaced) Remove(ctx context.Context, key string) error {
    return s.Snapshotter.Remove(s.in(ctx), key)
}

func (s namespaced) Walk(ctx context.Context, visit snapshots.WalkFunc, filters ...string) error {
    return s.Snapshotter.Walk(s.in(ctx), visit, filters...)
}

// The backend and the database outlive each test.
func (s namespaced) Close() error {
    return nil
}

func TestServerShared(t *testing.T) {
    root := t.TempDir()
    backend, end, err := serve(root)
    if err != nil {
        t.Fatal(err)
    }
    database, err := bolt.Open(filepath.Join(root, "meta.db"), 0600, nil)
    if err != nil {
        t.Fatal(err)
    }
    store := metadata.NewDB(database, nil, map[string]snapshots.Snapshotter{"veneer": backend})
    var tests int32
    // The group ends when its tests have, which run beside each other.
    t.Run("Group", func(t *testing.T) {
        testsuite.SnapshotterSuite(t, "veneer",
            func(ctx context.Context, _ string) (snapshots.Snapshotter, func() error, error) {
                name := fmt.Sprintf("test-%d", atomic.AddInt32(&tests, 1))
                return namespaced{store.Snapshotter("veneer"), name}, nil, nil
            })
    })
    seen := map[string]bool{}
    visit := func(_ context.Context, info snapshots.Info) error {
        seen[strings.SplitN(info.Name, "/", 2)[0]] = true
        return nil
    }
    if err := backend.Walk(context.Background(), visit); err != nil {
        t.Error(err)
    }
    if len(seen) < 10 {
        t.Errorf("the server was shared by %d tests only", len(seen))
    }
    if err := database.Close(); err != nil {
        t.Error(err)
    }
    if err := end(); err != nil {
        t.Error(err)
    }
}
