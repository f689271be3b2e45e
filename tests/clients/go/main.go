// Put, get, delete, transactions, compaction and lists with clientv3: main ADDRESS. Leases, locks,
// elections, software transactions and watches: main ADDRESS sessions. That prints `restart` where
// the server is to be killed and started again, and reads a line once that is done.
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
	parts := []part{single, many, transactions, history}
	if len(os.Args) > 2 && os.Args[2] == "sessions" {
		parts = []part{leases, mutex, contended, expired, elections, stm}
		parts = append(parts, live, progress, large, compacted, manyWatches, restart)
	}
	if err := run(os.Args[1], parts); err != nil {
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

// Something to be tried.
type part func(context.Context, *clientv3.Client) error

// Tries parts in turn, until one fails.
func run(address string, parts []part) error {
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
	for n, part := range parts {
		fmt.Println("part", n)
		if err := part(ctx, client); err != nil {
			return err
		}
	}
	return nil
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

func transactions(ctx context.Context, client *clientv3.Client) error {
	var c checks
	key := own + "t"
	create := func(value string) (*clientv3.TxnResponse, error) {
		return client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, value), clientv3.OpGet(key)).
			Else(clientv3.OpGet(key), clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", "1")},
				[]clientv3.Op{clientv3.OpDelete(key, clientv3.WithPrevKV())},
				nil,
			)).
			Commit()
	}
	first, err := create("1")
	if err != nil {
		return err
	}
	c.same("first", true, first.Succeeded)
	c.same("its own put", "1", string(first.Responses[1].GetResponseRange().Kvs[0].Value))
	second, err := create("2")
	if err != nil {
		return err
	}
	c.same("second", false, second.Succeeded)
	nested := second.Responses[1].GetResponseTxn()
	c.same("nested", true, nested.Succeeded)
	gone := nested.Responses[0].GetResponseDeleteRange().PrevKvs
	c.same("deleted", "1", string(gone[0].Value))
	_, err = client.Txn(ctx).Then(clientv3.OpPut(key, "1"), clientv3.OpPut(key, "2")).Commit()
	c.same("twice", true, errors.Is(err, rpctypes.ErrDuplicateKey))
	return c.err
}

// A list in pages and as a stream while its keys change, and the end of their history.
func history(ctx context.Context, client *clientv3.Client) error {
	var c checks
	prefix := own + "list/"
	var ops []clientv3.Op
	for n := range 100 {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%03d", prefix, n), "old"))
	}
	put, err := client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	then := put.Header.Revision
	end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
	count := 0
	for key, more := prefix, true; more; {
		page, err := client.Get(ctx, key, end, clientv3.WithLimit(7), clientv3.WithRev(then))
		if err != nil {
			return err
		}
		for _, kv := range page.Kvs {
			c.same("value on a page", "old", string(kv.Value))
		}
		count += len(page.Kvs)
		last := string(page.Kvs[len(page.Kvs)-1].Key)
		if _, err := client.Put(ctx, last, "new"); err != nil {
			return err
		}
		key, more = last+"\x00", page.More
	}
	c.same("pairs on all pages", 100, count)
	chunks, err := client.GetStream(ctx, prefix, end, clientv3.WithRev(then))
	if err != nil {
		return err
	}
	stream, err := clientv3.GetStreamToGetResponse(chunks)
	if err != nil {
		return err
	}
	c.same("streamed", 100, len(stream.Kvs))
	c.same("count of the stream", int64(100), stream.Count)

	now, err := client.Get(ctx, prefix, end, clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	revision := now.Header.Revision
	hash, err := client.HashKV(ctx, client.Endpoints()[0], 0)
	if err != nil {
		return err
	}
	c.same("revision of the hash", revision, hash.HashRevision)
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	_, err = client.Get(ctx, prefix, clientv3.WithRev(then))
	c.same("compacted", true, errors.Is(err, rpctypes.ErrCompacted))
	_, err = client.Compact(ctx, revision)
	c.same("compacted before", true, errors.Is(err, rpctypes.ErrCompacted))
	left, err := client.Get(ctx, prefix, end, clientv3.WithRev(revision))
	if err != nil {
		return err
	}
	c.same("pairs that are left", 100, len(left.Kvs))
	return c.err
}
