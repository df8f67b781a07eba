package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Server is a private Redis server on a port of the loopback. Its methods
// must not be called at the same time, but for Addr, URL and Client.
type Server struct {
	tb   testing.TB
	bin  string
	dir  string
	port int
	args []string
	proc *process // nil while killed

	password string
	watches  string // a sentinel's configuration, or nothing
}

// Start starts a server and waits until it answers. The arguments are those of
// redis-server, such as "--maxmemory", "1mb"; they win over the defaults, which
// keep nothing on disk. The server is killed when the test ends.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, bin: binary(tb), dir: tb.TempDir(), args: args}
	s.start()
	return s
}

func (s *Server) start() {
	tb := s.tb
	tb.Helper()
	tb.Cleanup(func() {
		if s.proc != nil {
			s.proc.kill()
		}
	})
	const attempts = 10
	for i := 1; ; i++ {
		s.port = freePort(tb)
		proc, err := s.launch()
		if err == nil {
			s.proc = proc
			return
		}
		// Another test may have taken the port since it was found free.
		if i == attempts || !errors.Is(err, errPortTaken) {
			tb.Fatalf("redistest: %v", err)
		}
	}
}

// Addr returns the server's address, "127.0.0.1:10379". It stays the same over
// Kill and Restart.
func (s *Server) Addr() string { return loopback + ":" + strconv.Itoa(s.port) }

// URL returns the server's address as redis.ParseURL reads it.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Client returns a new client of the server, with default options. It is closed
// when the test tb ends, which may end before the server's own.
func (s *Server) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Kill ends the server at once, as a crash would. Its data are gone, unless
// Start's arguments keep them on disk.
func (s *Server) Kill() {
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
}

// Restart kills the server, if it still runs, and starts it again on the same
// port, with nothing in it unless Start's arguments kept it on disk.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	s.password = ""
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		proc, err := s.launch()
		if err == nil {
			s.proc = proc
			return
		}
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			s.tb.Fatalf("redistest: restart: %v", err)
		}
	}
}

// Freeze stops the server's process where it stands: connections stay open, new
// ones are accepted by the kernel, nothing is answered. Freezing a frozen server
// does nothing.
func (s *Server) Freeze() {
	s.tb.Helper()
	s.signal("freeze", pause)
}

// Thaw lets a frozen server go on. It answers what it was sent meanwhile.
func (s *Server) Thaw() {
	s.tb.Helper()
	s.signal("thaw", resume)
}

func (s *Server) signal(what string, send func(*os.Process) error) {
	s.tb.Helper()
	if s.proc == nil {
		s.tb.Fatalf("redistest: %s: the server was killed", what)
	}
	if err := send(s.proc.cmd.Process); err != nil {
		s.tb.Fatalf("redistest: %s: %v", what, err)
	}
}

var errPortTaken = errors.New("the port is taken")

// launch starts the process and waits until it says that it is ready.
func (s *Server) launch() (*process, error) {
	args := []string{
		"--port", strconv.Itoa(s.port), "--bind", loopback, "--dir", s.dir,
		"--save", "", "--appendonly", "no",
	}
	if s.watches != "" {
		args = []string{s.watches, "--sentinel", "--port", strconv.Itoa(s.port), "--bind", loopback, "--dir", s.dir}
	}
	args = append(args, s.args...)
	// What the log says is how a server that cannot bind is told from one that
	// somebody else runs on the port.
	args = append(args, "--logfile", "", "--loglevel", "notice", "--daemonize", "no")

	p := &process{cmd: exec.Command(s.bin, args...), done: make(chan struct{})}
	p.cmd.SysProcAttr = dieWithParent()
	started, ready := make(chan error, 1), make(chan error, 1)
	go p.run(started, ready)
	if err := <-started; err != nil {
		return nil, err
	}
	const patience = 20 * time.Second
	select {
	case err := <-ready:
		if err != nil {
			<-p.done
		}
		return p, err
	case <-time.After(patience):
		p.kill()
		return nil, fmt.Errorf("%s was not ready within %v", s.bin, patience)
	}
}

// A process is one run of a server.
type process struct {
	cmd  *exec.Cmd
	once sync.Once
	done chan struct{} // closed when the process has ended
}

// run starts the process, reads its log and waits for its end.
func (p *process) run(started, ready chan<- error) {
	defer close(p.done)
	// The kernel sends the parent-death signal when the thread ends that
	// started the process, so that thread is kept for as long as that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.cmd.Stderr = p.cmd.Stdout
		err = p.cmd.Start()
	}
	started <- err
	if err != nil {
		return
	}
	var log strings.Builder
	told := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if told {
			continue
		}
		line := lines.Text()
		if told = strings.Contains(line, "Ready to accept connections") || strings.Contains(line, "Sentinel ID is"); told {
			ready <- nil
			continue
		}
		log.WriteString(line + "\n")
	}
	_, _ = io.Copy(io.Discard, out) // a line too long for the scanner must not block the server
	if _ = p.cmd.Wait(); told {
		return
	}
	if strings.Contains(log.String(), "Address already in use") {
		ready <- errPortTaken
		return
	}
	ready <- fmt.Errorf("%s ended before it was ready:\n%s", p.cmd.Path, log.String())
}

func (p *process) kill() {
	p.once.Do(func() { _ = p.cmd.Process.Kill() })
	<-p.done
}
