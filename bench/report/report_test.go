package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/bench/load"
)

func sample(ops uint64, latency time.Duration) load.Sample {
	h := new(load.Histogram)
	h.Add(latency, ops)
	return load.Sample{Ops: ops, Elapsed: time.Second, Latency: h, CPU: time.Second, Device: 1000, Allocs: ops}
}

func rows() []Row {
	var r Results
	for _, s := range []string{"qjm", "nats", "etcd", "floor-disk", "floor-grpc"} {
		for i, callers := range []int{1, 256} {
			rate := map[string]uint64{"qjm": 600, "nats": 300, "etcd": 200, "floor-disk": 1000, "floor-grpc": 1500}[s] * uint64(i*9+1)
			r.Add(s, callers, 256, sample(rate, time.Duration(callers)*time.Millisecond), nil)
		}
	}
	return r.Rows([]string{"qjm", "etcd", "nats", "floor-disk", "floor-grpc"})
}

func rival(name string) bool { return name == "nats" || name == "etcd" }

func TestRows_OfSeveralRounds(t *testing.T) {
	var r Results
	r.Add("qjm", 1, 256, sample(100, time.Millisecond), nil)
	r.Add("qjm", 1, 256, sample(900, time.Microsecond), nil)
	r.Add("qjm", 1, 256, sample(200, time.Millisecond), nil)
	row := r.Rows(nil)[0]
	require.Equal(t, 200.0, row.OpsPerSec, "the median, not the mean")
	require.Equal(t, 100.0, row.OpsMin)
	require.Equal(t, 900.0, row.OpsMax)
	require.InEpsilon(t, 1.0, row.P50, 0.01, "most operations of all rounds took a microsecond")
	require.InEpsilon(t, 1000.0, row.P99, 0.01)
	require.InEpsilon(t, 2500.0, row.CPU, 0.01, "three seconds over 1200 operations")
	require.InEpsilon(t, 1.0, row.Allocs, 0.01)
	require.Equal(t, 3, row.Rounds)
}

func TestBriefs_NamesAreThoseThatOthersRead(t *testing.T) {
	data, err := json.Marshal(Briefs(rows()[:1]))
	require.NoError(t, err)
	require.Equal(t, `[{"system":"qjm","callers":1,"size":256,"ops_per_sec":600,"p50_us":1001.472,"p99_us":1001.472,"cpu_us_per_op":1666.6666666666667}]`, string(data))
	data, err = json.Marshal(Briefs(nil))
	require.NoError(t, err)
	require.Equal(t, "[]", string(data))
}

func TestFailures_AreSaidAndLeftOut(t *testing.T) {
	var r Results
	r.Add("etcd", 1, 256, load.Sample{}, errors.New("no leader"))
	r.Add("nats", 1, 256, sample(10, time.Second), nil)
	rows := r.Rows([]string{"etcd", "nats"})
	require.Len(t, Briefs(rows), 1)
	var b bytes.Buffer
	require.NoError(t, Table(&b, rows))
	require.Contains(t, b.String(), "no leader")
	require.Contains(t, b.String(), "failed")
}

func TestRatios(t *testing.T) {
	got := Ratios(rows(), rival)
	require.Len(t, got, 2)
	require.Equal(t, "nats", got[0].BestRival)
	require.InEpsilon(t, 2.0, got[0].ToBestRival, 1e-9)
	require.InEpsilon(t, 1.0, got[0].ToFloors, 1e-9, "1/1000 + 1/1500 is 1/600")
	require.Equal(t, 256, got[1].Callers)
	var b bytes.Buffer
	require.NoError(t, RatioTable(&b, got))
	require.Contains(t, b.String(), "2.00 (nats)")
	require.Contains(t, b.String(), "| 256 |")
	b.Reset()
	require.NoError(t, RatioTable(&b, Ratios(rows()[:1], rival)))
	require.Empty(t, b.String(), "there was nothing to compare with")
}

func TestMarkdownTable_HasEveryRow(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, MarkdownTable(&b, rows()))
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	require.Len(t, lines, 2+len(rows()))
	for _, l := range lines {
		require.Equal(t, strings.Count(lines[0], "|"), strings.Count(l, "|"), l)
	}
}

func TestPlots_AreWellFormed(t *testing.T) {
	for _, p := range Plots {
		for _, rows := range [][]Row{rows(), rows()[:1], nil} {
			svg := p.SVG(rows)
			require.NotContains(t, svg, "NaN")
			require.NotContains(t, svg, "Inf")
			for d := xml.NewDecoder(strings.NewReader(svg)); ; {
				_, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
			}
		}
		require.Equal(t, 5, strings.Count(p.SVG(rows()), "<polyline"), "one line a system")
	}
}

func TestCompare_TellsADifferenceFromNoise(t *testing.T) {
	runs := func(rates ...float64) (out [][]Row) {
		for i, v := range rates {
			out = append(out, []Row{{System: "qjm", Callers: 1, Size: 256, Rounds: 1, OpsPerSec: v, P99: 7 + float64(i%4) + v/1000}})
		}
		return out
	}
	var b bytes.Buffer
	require.NoError(t, Compare(&b, runs(100, 101, 102, 103, 104, 105), runs(200, 202, 204, 206, 208, 210)))
	rate, rest, _ := strings.Cut(b.String(), "p50")
	require.Contains(t, rate, "2.00")
	require.Contains(t, rest, "~", "the p99s overlap")
	b.Reset()
	require.NoError(t, Compare(&b, runs(100), nil))
	require.Contains(t, b.String(), "not in both")
}

func TestGrouped(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1.25: "1.2", 12: "12", 1234: "1,234", 1234567: "1,234,567", 123456: "123,456"} {
		require.Equal(t, want, grouped(v))
	}
}
