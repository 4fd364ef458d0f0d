//go:build !qjmonly

package systems

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/quorumjournal/qjm/bench/load"
)

var etcdSpec = load.Spec{
	Name: "etcd", Mode: load.Callers, Start: startEtcd,
	Setup: "three embedded members, all defaults but the quota; callers in Put of 8-byte keys in order, clientv3 at the leader, a connection for 64 callers",
}

const (
	// etcdQuota is the largest that its documents suggest: a full backend would refuse, and is not what is measured.
	etcdQuota = 8 << 30
	// Its own guide to performance loads the leader with 1000 clients over 100 connections, and keys of 8 bytes
	// in order. In one process with the members fewer connections cost less CPU, to etcd's advantage.
	etcdCallersPerConn = 64
	etcdConnsMax       = 100
)

type etcd struct {
	members  []*embed.Etcd
	endpoint string // of the leader
	clients  []*clientv3.Client
	next     atomic.Uint64
}

func startEtcd(ctx context.Context, env load.Env) (sys load.System, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	e := &etcd{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	addrs, err := freeAddrs(2 * nodes)
	if err != nil {
		return nil, err
	}
	var cluster []string
	for i := range nodes {
		cluster = append(cluster, fmt.Sprintf("n%d=http://%s", i+1, addrs[nodes+i]))
	}
	for i := range nodes {
		// StartEtcd returns before the member has found the others.
		m, err := embed.StartEtcd(etcdConfig(env.Dir, i, addrs, strings.Join(cluster, ",")))
		if err != nil {
			return nil, err
		}
		e.members = append(e.members, m)
	}
	for _, m := range e.members {
		select {
		case <-m.Server.ReadyNotify():
		case err := <-m.Err():
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	leader := e.members[0].Server.Leader()
	for i, m := range e.members {
		if m.Server.MemberID() == leader {
			e.endpoint = addrs[i]
		}
	}
	if e.endpoint == "" {
		return nil, fmt.Errorf("systems: etcd's leader %s is none of its members", leader)
	}
	return e, e.Prepare(1)
}

// etcdConfig: every write is synced unless UnsafeNoFsync says otherwise; it is left alone.
func etcdConfig(dir string, i int, addrs []string, cluster string) *embed.Config {
	c := embed.NewConfig()
	at := func(addr string) []url.URL { return []url.URL{{Scheme: "http", Host: addr}} }
	c.Name = fmt.Sprintf("n%d", i+1)
	c.Dir = filepath.Join(dir, c.Name)
	c.ListenClientUrls, c.AdvertiseClientUrls = at(addrs[i]), at(addrs[i])
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(addrs[nodes+i]), at(addrs[nodes+i])
	c.InitialCluster = cluster
	c.InitialClusterToken = "bench"
	c.QuotaBackendBytes = etcdQuota
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	return c
}

// Prepare dials as many connections as that many callers use.
func (e *etcd) Prepare(callers int) error {
	want := min((callers+etcdCallersPerConn-1)/etcdCallersPerConn, etcdConnsMax)
	for len(e.clients) > want {
		last := len(e.clients) - 1
		if err := e.clients[last].Close(); err != nil {
			return err
		}
		e.clients = e.clients[:last]
	}
	for len(e.clients) < want {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.endpoint}, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		e.clients = append(e.clients, c)
	}
	return nil
}

func (e *etcd) Append(ctx context.Context, txn []byte) error {
	n := e.next.Add(1)
	_, err := e.clients[n%uint64(len(e.clients))].Put(ctx, fmt.Sprintf("%08x", n), string(txn))
	return err
}

// Contents is a linearizable read of all keys.
func (e *etcd) Contents(ctx context.Context) (out [][]byte, err error) {
	resp, err := e.clients[0].Get(ctx, "", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	for _, kv := range resp.Kvs {
		out = append(out, kv.Value)
	}
	return out, nil
}

func (e *etcd) Close() error {
	var errs []error
	for _, c := range e.clients {
		errs = append(errs, c.Close())
	}
	for _, m := range e.members {
		m.Close()
	}
	return errors.Join(errs...)
}
