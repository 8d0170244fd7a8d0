// Times the calls for a container's snapshot, Prepare, Mounts and Remove, of veneerd and of
// containerd's own overlayfs snapshotter, each behind a socket, as a proxy plugin is.
//   usage: snapshots VENEERD-SOCKET DIRECTORY
// DIRECTORY is where the other one keeps its snapshots.
package main

import (
    "context"
    "fmt"
    "log"
    "net"
    "os"
    "os/exec"
    "path/filepath"
    "runtime"
    "sort"
    "syscall"
    "time"

    api "github.com/containerd/containerd/api/services/snapshots/v1"
    "github.com/containerd/containerd/contrib/snapshotservice"
    "github.com/containerd/containerd/snapshots"
    "github.com/containerd/containerd/snapshots/overlay"
    "github.com/containerd/containerd/snapshots/proxy"
    "google.golang.org/grpc"
)

const (
    layers = 10
    rounds = 2000
)

func must(err error) {
    if err != nil {
        log.Fatal(err)
    }
}

func dial(socket string) snapshots.Snapshotter {
    connection, err := grpc.Dial(socket, grpc.WithInsecure(), grpc.WithBlock(),
        grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
            var dialer net.Dialer
            return dialer.DialContext(ctx, "unix", path)
        }))
    must(err)
    return proxy.NewSnapshotter(api.NewSnapshotsClient(connection), "bench")
}

// serveOverlayfs serves containerd's own on <dir>/o.sock.
func serveOverlayfs(dir string) {
    // With containerd's defaults: a removed directory is gone when the call returns, unless
    // Cleanup is left to do it.
    own, err := overlay.NewSnapshotter(filepath.Join(dir, "overlayfs"), overlay.AsynchronousRemove)
    must(err)
    listener, err := net.Listen("unix", filepath.Join(dir, "o.sock"))
    must(err)
    server := grpc.NewServer()
    api.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(own))
    must(server.Serve(listener))
}

// startOverlayfs does so in a process of its own, as veneerd is one. It ends with this one.
func startOverlayfs(dir string) string {
    server := exec.Command("/proc/self/exe", "serve", dir)
    server.Stderr = os.Stderr
    server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
    started := make(chan error)
    go func() {
        runtime.LockOSThread() // the process ends with the thread that made it
        started <- server.Start()
        select {}
    }()
    must(<-started)
    return filepath.Join(dir, "o.sock")
}

type timings map[string][]time.Duration

func (t timings) call(name string, body func() error) {
    begin := time.Now()
    must(body())
    t[name] = append(t[name], time.Since(begin))
}

// life is one container's, over the chain's top.
func (t timings) life(s snapshots.Snapshotter, key, parent string) {
    ctx := context.Background()
    begin := time.Now()
    t.call("Prepare", func() error {
        _, err := s.Prepare(ctx, key, parent)
        return err
    })
    t.call("Mounts", func() error {
        _, err := s.Mounts(ctx, key)
        return err
    })
    t.call("Remove", func() error { return s.Remove(ctx, key) })
    t["all"] = append(t["all"], time.Since(begin))
}

func main() {
    if os.Args[1] == "serve" {
        serveOverlayfs(os.Args[2])
    }
    names := []string{"overlayfs", "veneer"}
    servers := []snapshots.Snapshotter{dial(startOverlayfs(os.Args[2])), dial(os.Args[1])}
    times := []timings{{}, {}}
    ctx := context.Background()
    parent := ""
    for layer := 0; layer < layers; layer++ {
        name := fmt.Sprintf("bench/%d/layer", layer)
        for _, s := range servers {
            _, err := s.Prepare(ctx, name+" key", parent)
            must(err)
            must(s.Commit(ctx, name, name+" key"))
        }
        parent = name
    }
    // In turn, so that a noisy moment meets both.
    for round := 0; round < rounds; round++ {
        for i, s := range servers {
            times[i].life(s, fmt.Sprintf("bench/%d/box", 100+round), parent)
        }
    }
    fmt.Printf("\nA container's snapshot over %d layers, %d times, in microseconds\n",
        layers, rounds)
    fmt.Printf("%-10s %-10s %8s %8s %8s\n", "", "", "median", "p99", "max")
    for i, name := range names {
        for _, call := range []string{"Prepare", "Mounts", "Remove", "all"} {
            all := times[i][call]
            sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
            fmt.Printf("%-10s %-10s %8d %8d %8d\n", name, call, all[len(all)/2].Microseconds(),
                all[len(all)*99/100].Microseconds(), all[len(all)-1].Microseconds())
        }
    }
}
