//go:build linux

package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// imageBuild returns the command with which the Dockerfile builds the program.
func imageBuild(t *testing.T, root string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^RUN (.*\bmake build\b.*)$`).FindAllSubmatch(content, -1)
	if len(commands) != 1 {
		t.Fatalf("the Dockerfile builds the program %d times", len(commands))
	}
	return string(commands[0][1])
}

// buildImage builds the program from a tree into a new directory.
func buildImage(t *testing.T, root, command string) (program string) {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command+" BIN="+bin)
	cmd.Dir = root
	// A copy of the tree has no repository with a version.
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return filepath.Join(bin, "squall")
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The image contains only the program, so the program must need nothing else.
func TestImageNeedsNothingButTheProgram(t *testing.T) {
	root := filepath.Join("..", "..")
	program := buildImage(t, root, imageBuild(t, root))
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // opened for reading
	libraries, err := file.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("needs libraries %v: %v", libraries, err)
	}
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP || header.Type == elf.PT_DYNAMIC {
			t.Errorf("needs a loader: %v", header)
		}
	}
	out, err := inScratch(t, program, "", "version")
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this machine lets nobody make a user namespace")
	}
	if err != nil || !strings.HasPrefix(out, "squall ") {
		t.Errorf("in an empty directory squall version says %q: %v", out, err)
	}
	// The schedule has a time zone, but there is no zone database.
	gameDay := string(read(t, filepath.Join(root, "experiments", "library", "game-day.yaml")))
	if !strings.Contains(gameDay, "timeZone: Europe/") {
		t.Fatal("the game day has no time zone")
	}
	if out, err := inScratch(t, program, gameDay, "validate", "-"); err != nil {
		t.Errorf("in an empty directory squall validate says %q: %v", out, err)
	}
}

// inScratch runs a program as in the image: as user 65532, in a directory without
// other files.
func inScratch(t *testing.T, program, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/squall", args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Dir, cmd.Env = "/", []string{"USER=squall"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:      filepath.Dir(program),
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The program does not depend on the location of the tree.
func TestImageIsReproducible(t *testing.T) {
	root, elsewhere := filepath.Join("..", ".."), t.TempDir()
	command := imageBuild(t, root)
	for _, part := range sourceDirectories(t, root) {
		if err := os.CopyFS(filepath.Join(elsewhere, part), os.DirFS(filepath.Join(root, part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"Makefile", "go.mod", "go.sum"} {
		if err := os.WriteFile(filepath.Join(elsewhere, part), read(t, filepath.Join(root, part)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(read(t, buildImage(t, root, command)), read(t, buildImage(t, elsewhere, command))) {
		t.Error("two builds of one tree differ")
	}
}

// sourceDirectories returns the directories at the root that the packages of the
// program are in.
func sourceDirectories(t *testing.T, root string) (names []string) {
	t.Helper()
	const module = "github.com/squall-chaos/squall/"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/squall")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(out)) {
		if path, ours := strings.CutPrefix(strings.TrimSpace(name), module); ours {
			first, _, _ := strings.Cut(path, "/")
			names = append(names, first)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
