// Put, get and delete with clientv3: main ADDRESS.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const own = "go/"

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

// The first of several checks that fails.
type checks struct{ err error }

func (c *checks) same(what string, expected, found any) {
	if c.err == nil && expected != found {
		c.err = fmt.Errorf("%s: expected %v, found %v", what, expected, found)
	}
}

func run(address string) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{address},
		DialTimeout: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := single(ctx, client); err != nil {
		return err
	}
	return many(ctx, client)
}

func single(ctx context.Context, client *clientv3.Client) error {
	var c checks
	put, err := client.Put(ctx, own+"a", "1")
	if err != nil {
		return err
	}
	first := put.Header.Revision
	again, err := client.Put(ctx, own+"a", "2", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	c.same("revision", first+1, again.Header.Revision)
	c.same("previous", "1", string(again.PrevKv.Value))
	if _, err := client.Put(ctx, own+"\x00\xff", ""); err != nil {
		return err
	}
	got, err := client.Get(ctx, own+"a")
	if err != nil {
		return err
	}
	c.same("count", int64(1), got.Count)
	c.same("value", "2", string(got.Kvs[0].Value))
	c.same("version", int64(2), got.Kvs[0].Version)
	c.same("created", first, got.Kvs[0].CreateRevision)
	c.same("modified", first+1, got.Kvs[0].ModRevision)
	old, err := client.Get(ctx, own+"a", clientv3.WithRev(first), clientv3.WithSerializable())
	if err != nil {
		return err
	}
	c.same("old value", "1", string(old.Kvs[0].Value))
	page, err := client.Get(ctx, own, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil {
		return err
	}
	c.same("count of two", int64(2), page.Count)
	c.same("more", true, page.More)
	_, err = client.Get(ctx, own, clientv3.WithRev(1<<40))
	c.same("future revision", true, errors.Is(err, rpctypes.ErrFutureRev))
	_, err = client.Put(ctx, "", "v")
	c.same("no key", true, errors.Is(err, rpctypes.ErrEmptyKey))
	return c.err
}

func many(ctx context.Context, client *clientv3.Client) error {
	var c checks
	var group sync.WaitGroup
	failures := make([]error, 200)
	for n := range failures {
		group.Add(1)
		go func() {
			defer group.Done()
			key := fmt.Sprintf("%sn%d", own, n)
			_, failures[n] = client.Put(ctx, key, strings.Repeat("v", 1000))
		}()
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	full, err := client.Get(ctx, own, clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))
	if err != nil {
		return err
	}
	c.same("count of all", int64(202), full.Count)
	c.same("pairs", 202, len(full.Kvs))
	for n, kv := range full.Kvs[1:] {
		c.same("order", true, kv.ModRevision < full.Kvs[n].ModRevision)
	}
	gone, err := client.Delete(ctx, own+"a", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	c.same("deleted", int64(1), gone.Deleted)
	c.same("deleted value", "2", string(gone.PrevKvs[0].Value))
	rest, err := client.Delete(ctx, own, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	c.same("the rest deleted", int64(201), rest.Deleted)
	empty, err := client.Get(ctx, own, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	c.same("nothing left", int64(0), empty.Count)
	status, err := client.Status(ctx, client.Endpoints()[0])
	if err != nil {
		return err
	}
	c.same("the leader", status.Header.MemberId, status.Leader)
	members, err := client.MemberList(ctx)
	if err != nil {
		return err
	}
	c.same("members", 1, len(members.Members))
	return c.err
}
