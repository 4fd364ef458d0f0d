package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// EnvPrefix starts the environment variable of every flag: --base-port is QJM_BASE_PORT.
const EnvPrefix = "QJM_"

// Run executes a program and returns its exit code. Errors are printed on stderr as
// "program: what happened (hint)". subject tells what the command was about.
func Run(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer, subject *Subject) int {
	prepare(root)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if ctx.Err() != nil && ExitCode(err) != ExitAmbiguous && errors.Is(context.Cause(ctx), ErrInterrupted) {
		if !isA[*Silent](err) {
			err = ErrInterrupted
		}
		report(stderr, cmd, err, subject)
		return ExitInterrupted
	}
	report(stderr, cmd, err, subject)
	return ExitCode(err)
}

func report(w io.Writer, cmd *cobra.Command, err error, subject *Subject) {
	if isA[*Silent](err) || errors.Is(err, ErrDegraded) || errors.Is(err, ErrFound) {
		return
	}
	s := *subject
	s.Program, s.Usage, s.HelpOf = cmd.Root().Name(), "", cmd.CommandPath()
	if !cmd.HasAvailableSubCommands() {
		s.Usage = cmd.CommandPath() + strings.TrimPrefix(cmd.Use, cmd.Name())
	}
	what, hint := s.Explain(err)
	_, _ = fmt.Fprintln(w, Line(s.Program, what, hint))
}

// Line is how a message looks: the hint on the same line where it fits, else on a second one.
func Line(program, what, hint string) string {
	line := program + ": " + what
	switch {
	case hint == "":
		return Wrap(line, "  ")
	case columns(line)+columns(hint)+3 <= LineMax && !strings.Contains(line, "\n"):
		return line + " (" + hint + ")"
	}
	return Wrap(line+"\n  ("+hint+")", "  ")
}

// prepare gives a tree of commands the manners of this project: errors are returned and printed once,
// usage mistakes are UsageErrors, flags come from the environment as well.
func prepare(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usagef("%s", plainFlag(err)) })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags()) }
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.DisableFlagsInUseLine = true
		if c.HasSubCommands() && !c.Runnable() {
			group(c)
		}
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return &UsageError{plain(cmd, args, err)}
				}
				return nil
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// plain says what is wrong with the arguments in words that cobra's "accepts 1 arg(s)" lacks.
func plain(cmd *cobra.Command, args []string, err error) error {
	_, want, _ := strings.Cut(cmd.Use, " ")
	switch {
	case len(args) == 0 && want != "":
		return fmt.Errorf("%s is missing", want)
	case want == "":
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	names := positional(want)
	switch {
	case len(args) < len(names):
		return fmt.Errorf("%s is missing", names[len(args)])
	case len(args) > len(names):
		return fmt.Errorf("unexpected argument %q", args[len(names)])
	}
	return err
}

// positional is what of a usage line comes before its flags.
func positional(usage string) []string {
	names := strings.Fields(usage)
	for i, name := range names {
		if strings.HasPrefix(strings.TrimLeft(name, "[("), "-") {
			return names[:i]
		}
	}
	return names
}

// plainFlag leaves out what only a programmer understands of a flag's error.
func plainFlag(err error) string {
	return strconvText.ReplaceAllString(err.Error(), "")
}

var strconvText = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

// group makes a command that only has subcommands refuse anything else.
func group(c *cobra.Command) {
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
				return Usagef("unknown command %q, did you mean %q?", args[0], s[0])
			}
			return Usagef("unknown command %q, want one of: %s", args[0], names(cmd))
		}
		if cmd == cmd.Root() {
			return cmd.Help()
		}
		return Usagef("which one? %s", names(cmd))
	}
	c.Args = cobra.ArbitraryArgs
}

func names(c *cobra.Command) string {
	var out []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			out = append(out, sub.Name())
		}
	}
	return strings.Join(out, ", ")
}

// fromEnv sets every flag that was not given from QJM_<FLAG>.
func fromEnv(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Name == "version" {
			return
		}
		name := EnvPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v, ok := os.LookupEnv(name)
		if !ok || v == "" {
			return
		}
		if err := flags.Set(f.Name, v); err != nil {
			text := plainFlag(err)
			if _, why, ok := strings.Cut(text, " flag: "); ok {
				text = why
			}
			errs = append(errs, fmt.Errorf("environment variable %s=%q: %s", name, v, text))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return &UsageError{err}
	}
	return nil
}
